"""Checking a judge's critiques: what is asked, which judgments, and what comes out of made answers."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import UserError
from pipelines.core.stage import check_columns
from pipelines.core.storage import folder_schema
from pipelines.engines.llm.ask import Answer
from pipelines.evaluation.asking.critique_check import (
    CHECKED,
    SAID,
    CritiqueCheck,
    check_segment,
    critique_consistency,
    write_critiques,
)
from pipelines.evaluation.config import CritiqueCheckConfig
from pipelines.evaluation.scoring.results import summarise
from pipelines.judging.tasks import TASKS
from pipelines.judging.templates import identity
from tests.evaluation.conftest import JudgedRun


def row(task: str = "pairwise", predicted: str = "A", critique: str = "supports A", **values: Any) -> dict[str, Any]:
    return {
        "judgment_id": f"{task}-{predicted}",
        "task": task,
        "instruction": "i",
        "context": None,
        "responses": ["a", "b"][: TASKS[task].responses],
        "reference": None,
        "rubric": None,
        "allowed": list(TASKS[task].verdicts),
        "predicted": predicted,
        "critique": critique,
        **values,
    }


class Reader:
    """A checker that reads what a critique supports, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []

    async def __call__(self, prompt: str, **options: Any) -> Answer:
        critique = re.search(r"^Critique:\n```\n(.*)$", prompt, re.MULTILINE)[1]  # type: ignore[index]
        verdict = re.search(r"^Verdict: .*(?:Response|score of|question is) (\w+)", prompt, re.MULTILINE)
        said = re.search(r"(?:supports|Response|score of|question is) (\w+)", critique)[1]  # type: ignore[index]
        self.asked.append((critique, verdict[1] if verdict else None))
        answer = said if verdict is None else "Yes" if said == verdict[1] else "No"
        assert answer in options["choices"]
        return Answer(answer, prompt_tokens=5, output_tokens=1, seconds=0.1)


def check(one: dict[str, Any], mode: Any = "prompted", share: float = 1.0) -> Reader:
    reader = Reader()
    asyncio.run(CritiqueCheck(mode, seed=0, probe_share=share).run(one, reader))
    return reader


@pytest.mark.parametrize("mode", ["prompted", "blind"])
def test_a_critique_is_checked_against_its_verdict_another_one_and_a_plain_statement(mode: str) -> None:
    one = row()
    reader = check(one, mode)
    verdicts = ["A", "B", "A"] if mode == "prompted" else [None] * 3
    statement = "Response A is clearly the better of the two."
    assert reader.asked == list(zip(["supports A", "supports A", statement], verdicts, strict=True))
    assert (one["consistent"], one["probe_negative_flagged"], one["probe_positive_flagged"]) == (True, True, False)
    assert one["check_tokens"] == 18


@pytest.mark.parametrize("mode", ["prompted", "blind"])
def test_a_critique_that_argues_for_the_other_is_not_consistent(mode: str) -> None:
    one = row(critique="supports B")
    check(one, mode)
    assert (one["consistent"], one["probe_negative_flagged"]) == (False, False)


def test_another_score_is_at_least_two_away() -> None:
    seen = set()
    for number in range(40):
        one = row("absolute", "3", "supports 3", judgment_id=str(number))
        seen.add(check(one).asked[1][1])
    assert seen == {"1", "5"}


def test_a_verdict_without_a_contrary_tests_acceptance_alone() -> None:
    one = row("absolute", "2", "supports 2", allowed=["1", "2", "3"])
    assert [verdict for _, verdict in check(one).asked] == ["2", "2"]
    assert "probe_negative_flagged" not in one and one["probe_positive_flagged"] is False


def test_without_probes_the_critique_alone_is_asked_about() -> None:
    assert len(check(row(), share=0.0).asked) == 1


def chosen(made: JudgedRun, judge: str, rows: int, seed: int = 0) -> Path:
    """The folder of the judgments that would be checked, in a run of its own."""
    run = dataclasses.replace(made.run, out=made.out / f"{rows}-{seed}", seed=seed)
    return write_critiques(run, CritiqueCheckConfig(rows=rows), judge, made.judgments[judge]).folder


def test_the_judgments_to_check_have_a_critique_and_a_verdict_and_are_chosen_by_hash(
    make_run: Callable, two_models: dict
) -> None:
    run = make_run(two_models)
    judged = pq.read_table(run.judgments["trained"]).to_pylist()
    able = {one["judgment_id"] for one in judged if one["parse_status"] == "ok" and one["critique"]}
    found = pq.read_table(chosen(run, "trained", 10_000))
    assert set(found["judgment_id"].to_pylist()) == able and len(able) > 80
    assert found.schema.equals(SAID)
    few, other = (pq.read_table(chosen(run, "trained", 20, seed))["judgment_id"].to_pylist() for seed in (0, 1))
    assert len(few) == len(other) == 20 and set(few) < able and few != other
    assert {one.split(":")[0] for one in few} == {"heldout_pairwise", "heldout_absolute", "heldout_classification"}


def test_other_judgments_of_the_same_name_are_refused(make_run: Callable, two_models: dict) -> None:
    run, config = make_run(two_models), CritiqueCheckConfig(rows=20)

    def write(file: Path) -> Any:
        return write_critiques(run.run, config, "base", file)

    first = write(run.judgments["base"])
    assert write(run.judgments["base"]) == first
    with pytest.raises(UserError, match="another config"):
        write(run.judgments["trained"])
    table = pq.read_table(run.judgments["base"])
    other = pa.array([f"{text} Or not." if text else text for text in table["critique"].to_pylist()])
    place = table.schema.get_field_index("critique")
    pq.write_table(table.set_column(place, table.schema.field(place), other), run.judgments["base"])
    with pytest.raises(UserError, match="another config"):  # the same ids, and other words
        write(run.judgments["base"])


def test_judgments_alone_have_no_critiques_to_check(make_run: Callable) -> None:
    run = make_run({"base": lambda one: f"Result: {one['gold']}"}, ["heldout_pairwise"])
    with pytest.raises(UserError, match="no judgment has a critique"):
        chosen(run, "base", 20)


def test_the_segment_reads_and_adds_what_it_says(make_run: Callable, two_models: dict) -> None:
    run, config = make_run(two_models), CritiqueCheckConfig(rows=12)
    rows = write_critiques(run.run, config, "base", run.judgments["base"])
    segment = check_segment(run.run, config, "base", 64)
    schema = check_columns(folder_schema(rows.folder), segment.stages)
    assert schema.names == [*SAID.names, *(column.name for column in CHECKED)]
    assert pq.read_table(rows.folder).num_rows == 12


def test_the_answers_depend_on_the_question_its_wording_and_the_probes() -> None:
    seen = [CritiqueCheck("prompted", 0).depends()]
    for mode, seed, share in (("blind", 0, 1.0), ("prompted", 1, 1.0), ("prompted", 0, 0.5)):
        seen.append(CritiqueCheck(mode, seed, share).depends())
    assert all(one != another for one, another in itertools.combinations(seen, 2))
    assert seen[0]["template"] == identity("check_prompted")


def checked_rows(folder: Path, n: int, truly_off: float, tpr: float, fpr: float) -> Path:
    """Rows as a checker with these error rates would leave them, and one that it failed on."""
    rng = random.Random(0)
    rows: list[dict[str, Any]] = [{"judgment_id": "x", "benchmark": "two", "status": "error:critique-check:x"}]
    for number in range(n):
        flagged = rng.random() < (tpr if rng.random() < truly_off else fpr)
        probes = {"probe_negative_flagged": rng.random() < tpr, "probe_positive_flagged": rng.random() < fpr}
        benchmark = "one" if number % 4 else "two"
        rows.append(
            {"judgment_id": str(number), "benchmark": benchmark, "status": "ok", "consistent": not flagged, **probes}
        )
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema([*SAID, *CHECKED])), folder / "0.parquet")
    return folder


def test_the_checker_s_own_errors_are_taken_out(tmp_path: Path) -> None:
    found = critique_consistency(checked_rows(tmp_path / "rows", 8000, 0.1, tpr=0.9, fpr=0.2), seed=0)
    assert found["negatives"]["rate"] == pytest.approx(0.9, abs=0.02)
    assert found["positives"]["rate"] == pytest.approx(0.2, abs=0.02)
    every = found["all"]
    assert (every["n"], found["failed"]) == (8000, 1)
    assert every["rate"] == pytest.approx(0.1 * 0.9 + 0.9 * 0.2, abs=0.02)
    r, tpr, fpr = every["rate"], found["negatives"]["rate"], found["positives"]["rate"]
    assert every["corrected"] == pytest.approx((r - fpr) / (tpr - fpr))  # Rogan and Gladen
    assert every["corrected_interval"][0] < 0.1 < every["corrected_interval"][1]
    assert [entry["n"] for entry in found["benchmarks"].values()] == [6000, 2000]
    assert sum(entry["flagged"] for entry in found["benchmarks"].values()) == every["flagged"]


def test_a_checker_that_flags_everything_corrects_nothing(tmp_path: Path) -> None:
    found = critique_consistency(checked_rows(tmp_path / "rows", 400, 0.1, tpr=1.0, fpr=1.0), seed=0)
    assert (found["tells_apart"], found["all"]["corrected"], found["all"]["rate"]) == (False, None, 1.0)


def test_the_results_carry_what_the_checker_found(make_run: Callable, two_models: dict, tmp_path: Path) -> None:
    run = make_run(two_models)
    rows = checked_rows(tmp_path / "rows", 400, 0.1, tpr=0.9, fpr=0.1)
    found = summarise(run.judgments, run.examples, run.config, 0, checked={"trained": rows}).to_json()
    assert list(found["critiques"]) == ["trained"]
    assert found["critiques"]["trained"]["all"]["n"] == 400
    assert summarise(run.judgments, run.examples, run.config, 0).to_json()["critiques"] == {}
