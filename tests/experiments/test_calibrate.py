"""Judged systems and a few labels: what is read, what is refused, means and ranks against known truths, coverage."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipelines.core.errors import TooManyErrors, UserError
from pipelines.core.run import Run
from pipelines.experiments.calibrate import coverage, job
from pipelines.experiments.calibrate.config import CalibrateConfig
from pipelines.experiments.calibrate.estimate import (
    ALL,
    Gap,
    Interval,
    Mean,
    check_random,
    estimate,
    mean_interval,
    ranking,
)
from pipelines.experiments.calibrate.rows import Judged, from_judgment, read
from pipelines.experiments.records import record

BIAS = {"plain": 0.3, "verbose": 1.2}  # what the judge adds to the truth: it likes the verbose one
TRUTH = {"plain": 3.4, "verbose": 2.8}


def judged(prompts: int = 150, share: float = 0.3, seed: int = 0, biased: bool = True) -> list[Judged]:
    """Two systems on the same prompts, of which a biased judge prefers the worse."""
    draw = np.random.default_rng(seed)
    rows = []
    for number in range(prompts):
        hard = draw.normal(scale=0.5)
        for system, truth in TRUTH.items():
            label = float(np.clip(truth + hard + draw.normal(scale=0.5), 1, 5))
            score = label + biased * BIAS[system] + draw.normal(scale=0.4)
            known = label if draw.random() < share else None
            rows.append(Judged(f"{system}-{number}", system, f"p{number}", score, known))
    return rows


def lines(path: Path, records: list[Any]) -> str:
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return str(path)


def record_of(row: Judged) -> dict[str, Any]:
    named = {"id": row.id, "system": row.system, "prompt": row.prompt, "score": row.score}
    return {**named, "label": row.label} if row.label is not None else named


def test_names_are_taken_as_they_are_and_expressions_where_they_are_others(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "a.jsonl", [{"id": 1, "system": "s", "prompt": "p", "score": 3}, {"system": "t", "score": 2}]
    )
    first, second = read(Run(tmp_path), CalibrateConfig(input=[path])).rows
    assert first == Judged("1", "s", "p", 3.0, None)
    assert second.prompt == second.id == "0000.000000001"
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


def test_a_judge_that_likes_the_worse_system_is_set_right_by_labels() -> None:
    found = estimate(judged(), CalibrateConfig())
    means = {mean.system: mean for mean in found.means}
    for system, truth in TRUTH.items():
        one = means[system].calibrated
        assert one.low is not None and one.high is not None and one.low < truth < one.high
        assert means[system].naive.low is not None and means[system].naive.low > truth
    assert [place.system for place in found.ranking] == ["plain", "verbose"]
    assert [(place.best, place.worst, place.naive) for place in found.ranking] == [(1, 1, 2), (2, 2, 1)]
    (gap,) = found.gaps
    assert gap.shown == "higher" and gap.naive < 0 < gap.low
    assert found.total.system == ALL and found.total.n == 300


def test_a_good_judge_makes_the_interval_narrower_than_labels_alone() -> None:
    total = estimate(judged(400, share=0.2, biased=False), CalibrateConfig()).total
    width, alone = (one.high - one.low for one in (total.calibrated, total.labels_only) if one.high and one.low)
    assert width < 0.9 * alone


def test_a_system_with_few_labels_is_refused_and_has_no_place() -> None:
    rows = [
        row if row.system == "plain" or row.prompt < "p12" else Judged(*[*vars(row).values()][:4], None)
        for row in judged()
    ]
    few = sum(row.label is not None for row in rows if row.system == "verbose")
    assert 0 < few < 10
    found = estimate(rows, CalibrateConfig())
    refused = next(mean for mean in found.means if mean.system == "verbose")
    assert refused.refused == f"{few} labels of its own, 10 are needed" and refused.calibrated == Interval(value=None)
    assert refused.naive.value is not None and found.gaps == []
    assert [place.system for place in found.ranking] == ["plain"]


def test_too_few_labels_and_hand_picked_ones_are_refused() -> None:
    rows = judged()
    with pytest.raises(UserError, match="0 labels cannot carry anything: 10 are needed"):
        estimate([Judged(row.id, row.system, row.prompt, row.score, None) for row in rows], CalibrateConfig())
    picked = [Judged(row.id, row.system, row.prompt, row.score, 2.0 if row.score < 3 else None) for row in rows]
    with pytest.raises(UserError, match="no random sample"):
        estimate(picked, CalibrateConfig())
    assert check_random(rows, CalibrateConfig()) > 0.001  # type: ignore[operator]


def mean(system: str, value: float, naive: float) -> Mean:
    found = {"calibrated": Interval(value=value), "naive": Interval(value=naive), "labels_only": Interval(value=None)}
    return Mean(system=system, n=1, labels=1, **found)


def test_places_are_those_that_sure_differences_leave() -> None:
    means = [mean("a", 3.0, 1.0), mean("b", 2.0, 3.0), mean("c", 1.0, 2.0)]
    rest: dict[str, Any] = {"difference": 0.0, "low": 0.0, "high": 0.0, "p": 0.0, "p_holm": 0.0, "naive": 0.0}
    sure = [Gap(system="a", other="c", shown="higher", **rest), Gap(system="a", other="b", shown="undecided", **rest)]
    places = {one.system: (one.rank, one.best, one.worst, one.naive) for one in ranking(means, sure)}
    assert places == {"a": (1, 1, 2, 3), "b": (2, 1, 3, 1), "c": (3, 2, 3, 2)}


def test_the_interval_of_a_mean_is_student_s() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0], 0.95)
    assert found.value == 2.5 and found.low == pytest.approx(2.5 - 3.1824463 * np.std([1, 2, 3, 4], ddof=1) / 2)
    assert mean_interval([1.0], 0.95) == Interval(value=1.0) and mean_interval([], 0.95) == Interval(value=None)


def test_a_draw_depends_on_its_number_alone_and_hides_all_labels_but_the_share() -> None:
    rows = [Judged(row.id, row.system, row.prompt, row.score, row.label) for row in judged(60, share=1.0)]
    config = CalibrateConfig(coverage={"draws": 4, "share": 0.2})
    assert coverage.some(rows, config, 0, range(2, 4))[-1] == coverage.one(rows, config, 0, 3)[-1]
    assert coverage.one(rows, config, 0, 3) != coverage.one(rows, config, 1, 3)
    total = next(line for line in coverage.one(rows, config, 0, 0) if line["of"] == ALL)
    assert total["refused"] == ""
    with pytest.raises(UserError, match="rows have no label"):
        coverage.check(judged())


def test_coverage_counts_intervals_that_hold_the_truth() -> None:
    made = [(0.0, 2.0, ""), (1.5, 2.0, ""), (None, None, "few")]
    lines = [
        {"draw": n, "of": "s", "way": "calibrated", "value": 1.5, "low": low, "high": high, "refused": why}
        for n, (low, high, why) in enumerate(made)
    ]
    one, every = sorted(coverage.summarise(lines, {"s": 1.0}), key=lambda found: found.of != "s")
    assert (one.draws, one.refused, one.covered, one.width, one.error) == (2, 1, 0.5, 1.25, 0.5)
    assert every.of == "each system" and every.covered == 0.5 and every.truth is None


def test_the_products_say_the_same_and_a_second_run_writes_nothing_new(tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", [record_of(row) for row in judged(80)])
    config, run = CalibrateConfig(input=[path], judge="<b>a judge</b>"), Run(tmp_path / "out")
    page = job.run(run, config)
    text = page.read_text()
    assert "&lt;b&gt;a judge&lt;/b&gt;" in text and "<b>a judge" not in text and "Naive" in text
    found = json.loads((run.calibrated / "calibrate.json").read_text())
    kept = record.read(run.calibrated)
    assert {(one.name, one.of): one.value for one in kept.figures}["mean, calibrated", "plain"] == next(
        one["calibrated"]["value"] for one in found["means"] if one["system"] == "plain"
    )
    assert [(one.about, one.verdict) for one in kept.decisions] == [("plain", "rank 1"), ("verbose", "rank 2")]
    before = page.stat().st_mtime_ns
    job.run(run, config)
    assert page.stat().st_mtime_ns == before
    assert job.describe(run, config)[0].startswith("calibrate 160 rows of 2 systems by ")


def test_without_labels_rows_to_label_are_listed_by_hash(tmp_path: Path) -> None:
    rows = [Judged(row.id, row.system, row.prompt, row.score, None) for row in judged(100)]
    path = lines(tmp_path / "a.jsonl", [record_of(row) for row in rows])
    run = Run(tmp_path / "out")
    with pytest.raises(UserError, match=r"name them in calibrate\.labels"):
        job.run(run, CalibrateConfig(input=[path], label_share=0.2))
    listed = list(csv.DictReader((run.calibrated / "to_label.csv").open()))
    assert len(listed) == 40 and {one["label"] for one in listed} == {""}
    labels = {row.id: row for row in judged(100, share=1.0)}
    with (tmp_path / "labels.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label"])
        writer.writerows([one["id"], labels[one["id"]].label] for one in listed)
    job.run(run, CalibrateConfig(input=[path], labels=[str(tmp_path / "labels.csv")]))
    assert record.read(run.calibrated).decisions[0].verdict == "rank 1"
