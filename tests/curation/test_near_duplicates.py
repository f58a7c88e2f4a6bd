"""Near duplicates: what counts as one, which of two stays, and that no twin is overlooked."""

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
from pipelines.curation.config import NearDuplicatesConfig

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
    made |= {"context": None, "rubric": None, "reference": None, "allowed": ["Yes", "No"]}
    return {**made, "responses": responses, "verdict": verdict, "status": "ok", **more}


def twins(
    folder: Path, rows: list[dict[str, Any]], duplicates: list[str] | None = None, threshold: float = 0.9
) -> dict[str, str]:
    """raw_id -> twin, by position in the source alone."""
    (folder / "rows").mkdir(parents=True, exist_ok=True)
    (folder / "signed").mkdir(exist_ok=True)
    pq.write_table(to_table(rows, EXAMPLE), folder / "rows" / "0.parquet")
    pq.write_table(pa.table({"raw_id": pa.array(duplicates or [], pa.string())}), folder / "duplicates.parquet")
    near.sign(folder / "rows" / "0.parquet", folder / "signed" / "0.parquet", ngram=5)
    files = (folder / "signed", folder / "rows", folder / "duplicates.parquet", folder / "near.parquet")
    count = near.match(*files, NearDuplicatesConfig(threshold=threshold), ["s"])
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


def test_claims_on_one_document_are_no_near_duplicates(tmp_path: Path) -> None:
    document = text(1, 500)
    claims = [row(at, "State a claim.", [text(at, 12)], "Yes", context=document) for at in range(2, 12)]
    assert twins(tmp_path, claims) == {}


def test_a_twin_is_found_among_a_hundred_claims_on_its_document(tmp_path: Path) -> None:
    document = text(1, 500)
    claims = [row(at, "State.", [text(at, 60)], "Yes", context=document, raw_id=f"s:{at:04d}") for at in range(100)]
    late = row(100, "State.", [changed(text(70, 60), 0.98)], "Yes", context=document, raw_id="s:0100")
    assert twins(tmp_path, [*claims, late]) == {"0": "0"}
    assert pq.read_table(tmp_path / "near.parquet")["twin"].to_pylist() == ["s:0070"]


@pytest.mark.parametrize(
    "change",
    [
        {"instruction": "Is the profit up?"},
        {"responses": ["No, it fell."]},
        {"rubric": "Is it polite?"},
        {"reference": "It fell."},
        {"context": text(9, 400)},
    ],
)
def test_rows_that_differ_in_one_part_stay_however_long_the_others_are(change: dict[str, Any]) -> None:
    parts = {"context": text(1, 500), "rubric": "Is it right?", "reference": "It rose."}
    same = row(0, "Is the revenue up?", ["Yes, it rose."], "Yes", **parts)
    assert near.similarity(same, {**same, **change}, 5) < 0.9


def test_the_short_response_of_a_pair_counts_as_much_as_the_long_one() -> None:
    long = text(1, 400)
    first = row(0, "Tell me.", [long, "I do not know."], "A")
    assert near.similarity(first, {**first, "responses": [long, "Ask somebody else, please."]}, 5) == 0
    tie = row(0, "Tell me.", [long, "I do not know."], "Tie")
    assert near.similarity(tie, {**tie, "responses": ["I do not know.", long]}, 5) == 1
    assert near.similarity(tie, {**tie, "responses": ["Ask somebody else, please.", long]}, 5) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Close the brackets: ( [ {", "Close the brackets: { ( [", False),
        ("What is 3 + 4?", "What is 3 * 4?", False),
        ("Is -5 less?", "Is 5 less?", False),
        ("Well-known, he said: \u201cyes\u201d!", "well known he said 'yes'", True),
        ("- one\n- two", "one two.", True),
        ("?!", "!!", False),
        ("\U0001f389", "\U0001f44d", False),
    ],
)
def test_symbols_are_words_and_the_marks_of_a_sentence_are_not(one: str, other: str, same: bool) -> None:
    assert (near.shingles(one, 5) == near.shingles(other, 5)) is same


def test_the_same_label_on_another_scale_is_another_label(tmp_path: Path) -> None:
    five, ten = [str(n) for n in range(1, 6)], [str(n) for n in range(1, 11)]
    rows = [row(at, "Rate.", [text(1)], "5", task="absolute", allowed=scale) for at, scale in enumerate((five, ten))]
    assert twins(tmp_path, rows) == {}
    assert twins(tmp_path, [rows[0], {**rows[1], "allowed": five[::-1]}]) == {"1": "0"}


def test_of_a_chain_only_what_is_like_a_row_that_stays_leaves(tmp_path: Path) -> None:
    base = text(1)
    chain = [row(at, base, [" ".join(text(2, 200).split()[at * 12 : at * 12 + 180])], "Yes") for at in range(3)]
    assert near.similarity(chain[0], chain[2], 5) < 0.8 <= near.similarity(chain[0], chain[1], 5)
    assert twins(tmp_path, chain, threshold=0.8) == {"1": "0"}


@pytest.mark.parametrize("size", [30, 300])
def test_rows_as_like_as_the_threshold_share_a_band(size: int) -> None:
    missed = 0
    for seed in range(50):
        words = text(seed, size).split()
        cut = round(size * 0.05)
        one, other = (row(0, " ".join(part), [" ".join(part)], "Yes") for part in (words[cut:], words[:-cut]))
        first, second = near.bands([one, other], 5)
        missed += not (first == second).any()
    assert missed == 0


def test_the_filter_names_its_reason(tmp_path: Path) -> None:
    pq.write_table(pa.table({"raw_id": ["s:1"]}), tmp_path / "near.parquet")
    rows = [{"raw_id": "s:0", "status": "ok"}, {"raw_id": "s:1", "status": "ok"}]
    apply_stages([near.NotNearDuplicate(tmp_path / "near.parquet")], rows)
    assert [r["status"] for r in rows] == ["ok", "filtered:near_duplicate"]
