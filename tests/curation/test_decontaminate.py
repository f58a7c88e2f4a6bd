"""Decontamination: whole prompts, runs of words, boilerplate, and what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.records import EXAMPLE, OVERLAPS
from pipelines.core.stage import apply_stages, to_table
from pipelines.curation.decontaminate import BOILERPLATE, Decontaminate, build_index, keys, overlap_table

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


def check(folder: Path, prompts: list[tuple[str, str]], *instructions: str, **more: Any) -> list[tuple[str, list[str]]]:
    path = folder / "prompts.parquet"
    pq.write_table(pa.table({"benchmark": [b for b, _ in prompts], "text": [t for _, t in prompts]}), path)
    rows = [{"instruction": text, "context": None, "status": "ok", **more} for text in instructions]
    apply_stages([Decontaminate(path, 13)], rows)
    return [(row["status"], row["overlaps"]) for row in rows]


def test_an_equal_prompt_leaves_whatever_its_case_and_punctuation(tmp_path: Path) -> None:
    found = check(tmp_path, [("mt_bench", "Who wrote Hamlet?")], "who wrote hamlet", "who wrote Macbeth?")
    assert found == [("filtered:contaminated:mt_bench", ["mt_bench"]), ("ok", [])]


def test_a_shared_run_of_words_leaves_and_a_shorter_one_stays(tmp_path: Path) -> None:
    words = LONG.split()
    found = check(
        tmp_path,
        [("lfqa", f"Before it: {LONG} and after")],
        "Other words, then " + " ".join(words[1:14]),
        "Other words, then " + " ".join(words[1:13]),
    )
    assert [status for status, _ in found] == ["filtered:contaminated:lfqa", "ok"]


def test_the_context_counts_as_well(tmp_path: Path) -> None:
    found = check(tmp_path, [("aggrefact", LONG)], "Is it so?", context=f"{LONG}.")
    assert found == [("filtered:contaminated:aggrefact", ["aggrefact"])]


def test_every_benchmark_is_named_and_the_first_is_the_reason(tmp_path: Path) -> None:
    found = check(tmp_path, [("b", "same prompt"), ("a", "same prompt")], "Same prompt!")
    assert found == [("filtered:contaminated:a", ["a", "b"])]


def test_what_many_prompts_of_a_benchmark_share_is_boilerplate() -> None:
    run = " ".join(LONG.split()[:13])
    prompts = [("a", f"{run} {i}") for i in range(BOILERPLATE + 1)]
    (key,) = (k for k in keys(run, 13) if k in build_index([("b", f"x {run} y")], 13))
    assert key not in build_index(prompts, 13)
    assert key in build_index(prompts[1:], 13)
    assert next(keys(f"{run} 3", 13)) in build_index(prompts, 13)  # the whole prompt is still found


def test_a_text_without_words_overlaps_with_nothing(tmp_path: Path) -> None:
    assert check(tmp_path, [("a", "?!")], "?!", "") == [("ok", []), ("ok", [])]


def test_the_report_counts_rows_and_instructions(tmp_path: Path) -> None:
    rows = [
        {"source": "s", "instruction": "p", "overlaps": ["a", "b"]},
        {"source": "s", "instruction": "p", "overlaps": ["a"]},
        {"source": "t", "instruction": "q", "overlaps": []},
        {"source": "t", "instruction": "q", "overlaps": None},
    ]
    pq.write_table(to_table(rows, pa.schema([*EXAMPLE, *OVERLAPS])), tmp_path / "0.parquet")
    assert overlap_table(tmp_path) == {"s": {"a": {"rows": 2, "instructions": 1}, "b": {"rows": 1, "instructions": 1}}}
