"""Near duplicates: what counts as one, which of two stays, and that the estimate is near the truth."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.records import EXAMPLE
from pipelines.core.stage import apply_stages, to_table
from pipelines.curation import near_duplicates as near

WORDS = [f"word{i}" for i in range(4000)]


def text(seed: int, n: int = 200) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=n))


def changed(original: str, share: float, seed: int = 0) -> str:
    """The text with its last words replaced, so that about 1 − share of the 5-grams go."""
    words = original.split()
    kept = round(len(words) * share)
    return " ".join(words[:kept] + text(seed + 999, len(words) - kept).split())


def row(at: int, instruction: str, responses: list[str], verdict: str, **more: Any) -> dict[str, Any]:
    task = more.pop("task", "pairwise" if len(responses) == 2 else "classification")
    made: dict[str, Any] = {"raw_id": f"s:0000.{at:09d}", "source": "s", "task": task, "instruction": instruction}
    made |= {"context": None, "rubric": None}
    return {**made, "responses": responses, "verdict": verdict, "status": "ok", **more}


def twins(folder: Path, rows: list[dict[str, Any]], duplicates: list[str] | None = None) -> dict[str, str]:
    """raw_id -> twin, by position in the source alone."""
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    (folder / "signed").mkdir(exist_ok=True)
    pq.write_table(to_table(rows, EXAMPLE), folder / "rows" / "0.parquet")
    pq.write_table(pa.table({"raw_id": pa.array(duplicates or [], pa.string())}), folder / "duplicates.parquet")
    near.sign(folder / "rows" / "0.parquet", folder / "signed" / "0.parquet", ngram=5)
    count = near.match(folder / "signed", folder / "duplicates.parquet", folder / "near.parquet", 0.9, ["s"])
    found = pq.read_table(folder / "near.parquet").to_pylist()
    assert len(found) == count
    return {r["raw_id"][-1]: r["twin"][-1] for r in found}


def test_the_later_of_two_like_rows_is_listed(tmp_path: Path) -> None:
    base = text(1)
    rows = [row(0, base, ["yes"], "Yes"), row(1, changed(base, 0.98), ["yes"], "Yes"), row(2, text(2), ["yes"], "Yes")]
    assert twins(tmp_path, rows) == {"1": "0"}
    assert twins(tmp_path / "other", [rows[2], rows[1], rows[0]]) == {"1": "0"}  # the order of files does not matter


def test_rows_that_differ_enough_stay(tmp_path: Path) -> None:
    base = text(1)
    assert twins(tmp_path, [row(0, base, ["yes"], "Yes"), row(1, changed(base, 0.7), ["yes"], "Yes")]) == {}


def test_another_label_is_a_contrast_and_no_duplicate(tmp_path: Path) -> None:
    base = text(1)
    assert twins(tmp_path, [row(0, base, ["yes"], "Yes"), row(1, base, ["yes"], "No")]) == {}


def test_a_swapped_pair_is_the_same_pair_and_one_with_the_other_label_is_not(tmp_path: Path) -> None:
    base, good, bad = text(1), text(2), text(3)
    same = [row(0, base, [good, bad], "A"), row(1, base, [bad, good], "B")]
    other = [row(0, base, [good, bad], "A"), row(1, base, [good, bad], "B")]
    assert twins(tmp_path / "same", same) == {"1": "0"}
    assert twins(tmp_path / "other", other) == {}


def test_exact_duplicates_are_left_to_their_own_rule(tmp_path: Path) -> None:
    base = text(1)
    rows = [row(i, base, ["yes"], "Yes") for i in range(3)]
    assert twins(tmp_path, rows, duplicates=["s:0000.000000001"]) == {"2": "0"}


def test_rows_that_are_not_ok_are_neither_twins_nor_have_one(tmp_path: Path) -> None:
    base = text(1)
    rows = [row(0, base, ["yes"], "Yes", status="error:x"), row(1, base, ["yes"], "Yes"), row(2, base, ["yes"], "Yes")]
    assert twins(tmp_path, rows) == {"2": "1"}


def test_rows_without_words_are_no_twins_of_each_other_by_their_emptiness(tmp_path: Path) -> None:
    rows = [row(0, "?!", ["..."], "Yes"), row(1, "!!", ["--"], "Yes"), row(2, text(5), [""], "Yes")]
    assert twins(tmp_path, rows) == {}


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_the_estimate_is_near_the_true_similarity(share: float) -> None:
    from rensa import RMinHash

    errors = []
    for seed in range(20):
        a = near.shingles(row(0, text(seed), ["yes"], "Yes"), 5)
        b = near.shingles(row(1, changed(text(seed), share, seed), ["yes"], "Yes"), 5)
        true = len(set(a) & set(b)) / len(set(a) | set(b))
        first, second = (s.digest() for s in RMinHash.from_token_sets([a, b], num_perm=near.SLOTS, seed=0))
        errors.append(sum(x == y for x, y in zip(first, second, strict=True)) / near.SLOTS - true)
    # The standard error of one estimate is at most √(0.25 / 128) = 0.044; of the mean of 20 it is 0.01.
    assert abs(sum(errors) / len(errors)) < 0.03 and max(map(abs, errors)) < 0.2


def test_the_filter_names_its_reason(tmp_path: Path) -> None:
    pq.write_table(pa.table({"raw_id": ["s:1"]}), tmp_path / "near.parquet")
    rows = [{"raw_id": "s:0", "status": "ok"}, {"raw_id": "s:1", "status": "ok"}]
    apply_stages([near.NotNearDuplicate(tmp_path / "near.parquet")], rows)
    assert [r["status"] for r in rows] == ["ok", "filtered:near_duplicate"]
