"""The rejected verdict and the order of responses: by the rules, from the hash alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipelines.core.records import EXAMPLE
from pipelines.core.stage import RowTask, apply_stages, check_columns, to_table
from pipelines.curation.contrast import Contrast
from pipelines.judging.tasks import TASKS

SCALE = ["1", "2", "3", "4", "5"]
SETS = {
    "pairwise": [["A", "B"], ["A", "B", "Tie"]],
    "absolute": [SCALE, ["0", "1", "2", "3", "4"], [str(n) for n in range(1, 11)]],
    "classification": [["Yes", "No"], ["full", "partial", "none"]],
}


def row(number: int, task: str, allowed: list[str], verdict: str) -> dict[str, Any]:
    responses = [f"first {number}", f"second {number}"] if task == "pairwise" else [f"only {number}"]
    return {
        "row_id": f"id-{number}",
        "task": task,
        "allowed": allowed,
        "verdict": verdict,
        "responses": responses,
        "status": "ok",
    }


def contrasted(rows: list[dict[str, Any]], seed: int = 0) -> list[dict[str, Any]]:
    apply_stages([Contrast(seed)], rows)
    return rows


@st.composite
def some_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    made = []
    for number in range(draw(st.integers(1, 12))):
        task = draw(st.sampled_from(sorted(SETS)))
        allowed = draw(st.sampled_from(SETS[task]))
        made.append(row(number, task, allowed, draw(st.sampled_from(allowed))))
    return made


@pytest.mark.parametrize(
    ("task", "allowed", "verdict", "expected"),
    [
        ("pairwise", ["A", "B"], "A", ["B"]),
        ("pairwise", ["A", "B"], "B", ["A"]),
        ("pairwise", ["A", "B", "Tie"], "A", ["B"]),
        ("pairwise", ["A", "B", "Tie"], "Tie", ["A", "B"]),
        ("classification", ["Yes", "No"], "Yes", ["No"]),
        ("classification", ["x", "y", "z"], "y", ["x", "z"]),
        ("absolute", SCALE, "1", ["3", "4", "5"]),
        ("absolute", SCALE, "2", ["4", "5"]),  # §2.2
        ("absolute", SCALE, "3", ["1", "5"]),
        ("absolute", SCALE, "5", ["1", "2", "3"]),
        ("absolute", ["0", "1", "2", "3", "4"], "0", ["2", "3", "4"]),
        ("absolute", ["1", "2", "3"], "2", []),
    ],
)
def test_the_rejected_verdict_contradicts_the_true_one(
    task: str, allowed: list[str], verdict: str, expected: list[str]
) -> None:
    assert TASKS[task].rejectable(verdict, allowed) == expected


@settings(deadline=None)
@given(some_rows(), st.integers(0, 3))
def test_the_rejected_verdict_is_allowed_and_never_the_verdict(rows: list[dict[str, Any]], seed: int) -> None:
    for made in contrasted(rows, seed):
        assert made["status"] == "ok"
        assert made["rejected_verdict"] in made["allowed"]
        assert made["rejected_verdict"] != made["verdict"]
        if made["task"] == "absolute":
            assert abs(int(made["rejected_verdict"]) - int(made["verdict"])) >= 2


@settings(deadline=None)
@given(some_rows(), st.integers(1, 5), st.randoms(use_true_random=False))
def test_batches_and_order_change_nothing(rows: list[dict[str, Any]], size: int, random: Any) -> None:
    schema = check_columns(EXAMPLE, [Contrast(1)])
    task = RowTask([Contrast(1)], schema)
    whole = {made["row_id"]: made for made in task(to_table(rows, EXAMPLE)).to_pylist()}
    random.shuffle(rows)
    for at in range(0, len(rows), size):
        for made in task(to_table(rows[at : at + size], EXAMPLE)).to_pylist():
            assert made == whole[made["row_id"]]


@settings(deadline=None)
@given(some_rows())
def test_a_swap_moves_responses_and_verdict_together(rows: list[dict[str, Any]]) -> None:
    before = [{**one, "responses": list(one["responses"])} for one in rows]
    for old, new in zip(before, contrasted(rows), strict=True):
        assert new["swapped"] in (True, False)
        if new["swapped"]:
            assert old["task"] == "pairwise"
            assert new["responses"] == old["responses"][::-1]
            assert new["verdict"] == {"A": "B", "B": "A", "Tie": "Tie"}[old["verdict"]]
        else:
            assert (new["responses"], new["verdict"]) == (old["responses"], old["verdict"])


def test_half_of_the_pairs_are_swapped_whatever_their_verdict() -> None:
    for verdict in ("A", "B", "Tie"):
        rows = contrasted([row(n, "pairwise", ["A", "B", "Tie"], verdict) for n in range(4000)])
        swapped = sum(one["swapped"] for one in rows)
        assert stats.binomtest(swapped, 4000).pvalue > 0.001


@pytest.mark.parametrize(
    ("task", "allowed", "verdict"),
    [
        ("absolute", SCALE, "1"),
        ("pairwise", ["A", "B", "Tie"], "Tie"),
        ("classification", ["x", "y", "z"], "y"),
    ],
)
def test_the_choice_is_uniform(task: str, allowed: list[str], verdict: str) -> None:
    rows = contrasted([row(n, task, allowed, verdict) for n in range(4000)])
    counts = Counter(one["rejected_verdict"] for one in rows)
    assert set(counts) == set(TASKS[task].rejectable(verdict, allowed))
    assert stats.chisquare(list(counts.values())).pvalue > 0.001


def test_the_swap_says_nothing_about_the_rejected_side_of_a_tie() -> None:
    rows = contrasted([row(n, "pairwise", ["A", "B", "Tie"], "Tie") for n in range(4000)])
    table = [[0, 0], [0, 0]]
    for one in rows:
        table[one["swapped"]][one["rejected_verdict"] == "A"] += 1
    assert stats.chi2_contingency(table).pvalue > 0.001


def test_another_seed_gives_another_draw() -> None:
    def drawn(seed: int) -> list[Any]:
        return [one["swapped"] for one in contrasted([row(n, "pairwise", ["A", "B"], "A") for n in range(50)], seed)]

    assert drawn(1) != drawn(2)


def test_a_row_that_cannot_be_contrasted_is_filtered() -> None:
    (one,) = contrasted([row(1, "absolute", ["1", "2", "3"], "2")])
    assert one["status"] == "filtered:no_contrast"


@pytest.mark.parametrize(
    ("task", "allowed", "verdict"),
    [("pairwise", ["1", "2", "tie"], "1"), ("absolute", ["bad", "good"], "bad"), ("absolute", ["1", "2\u00b2"], "1")],
)
def test_a_row_whose_verdicts_do_not_suit_its_task_is_an_error_and_is_not_swapped(
    task: str, allowed: list[str], verdict: str
) -> None:
    for one in contrasted([row(n, task, allowed, verdict) for n in range(20)]):
        assert one["status"].startswith("error:contrast:verdicts_do_not_suit_the_task:")
        assert one["verdict"] == verdict and one["responses"][0].split()[0] in ("first", "only")


@pytest.mark.parametrize(("task", "allowed", "verdict"), [("pairwise", ["A", "B"], "C"), ("absolute", SCALE, "6")])
def test_a_verdict_that_is_not_allowed_is_an_error_and_not_kept_through_a_swap(
    task: str, allowed: list[str], verdict: str
) -> None:
    for one in contrasted([row(n, task, allowed, verdict) for n in range(20)]):
        assert one["status"] == f"error:contrast:verdict_not_allowed:{verdict}"
        assert one.get("rejected_verdict") is None
