"""One judgment out of one or two answers, with values worked out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from pipelines.judging.combine import Judged, combine, expected_score, turned_back

AB = ["A", "B"]
SCALE = ["1", "2", "3", "4", "5"]


def test_one_order_is_told_as_it_is() -> None:
    found = combine("pairwise", AB, Judged("B", {"B": 0.7, "A": 0.3}))
    assert (found.verdict, found.consistent, found.expected_score) == ("B", None, None)
    assert list(found.probabilities.items()) == [("A", 0.3), ("B", 0.7)]


def test_two_orders_are_averaged_after_the_swapped_one_is_turned_back() -> None:
    # In the swapped order the judge saw the caller's B first: its A is the caller's B.
    found = combine("pairwise", AB, Judged("A", {"A": 0.9, "B": 0.1}), Judged("A", {"A": 0.6, "B": 0.4}))
    assert found.probabilities == pytest.approx({"A": (0.9 + 0.4) / 2, "B": (0.1 + 0.6) / 2})
    assert (found.verdict, found.consistent) == ("A", False)


def test_the_surer_order_decides() -> None:
    found = combine("pairwise", AB, Judged("A", {"A": 0.55, "B": 0.45}), Judged("A", {"A": 0.95, "B": 0.05}))
    assert (found.verdict, found.consistent) == ("B", False)


def test_orders_that_name_the_same_response_are_consistent() -> None:
    found = combine("pairwise", AB, Judged("A", {"A": 0.9, "B": 0.1}), Judged("B", {"A": 0.2, "B": 0.8}))
    assert (found.verdict, found.consistent) == ("A", True)
    assert found.probabilities == pytest.approx({"A": 0.85, "B": 0.15})


def test_a_tie_stays_a_tie_when_the_responses_are_swapped() -> None:
    tie = Judged("Tie", {"A": 0.2, "B": 0.1, "Tie": 0.7})
    found = combine("pairwise", ["A", "B", "Tie"], tie, tie)
    assert (found.verdict, found.consistent) == ("Tie", True)
    assert found.probabilities == pytest.approx({"A": 0.15, "B": 0.15, "Tie": 0.7})


@pytest.mark.parametrize("first", AB)
def test_of_equally_likely_verdicts_the_given_order_decides(first: str) -> None:
    sure = Judged(first, {"A": float(first == "A"), "B": float(first == "B")})
    assert combine("pairwise", AB, sure, sure).verdict == first


@pytest.mark.parametrize(
    ("given", "swapped", "verdict", "consistent"),
    [
        ("A", "B", "A", True),
        ("A", "A", "A", False),
        (None, "A", "B", None),
        ("B", None, "B", None),
        (None, None, None, None),
    ],
)
def test_without_probabilities_the_verdicts_themselves_count(
    given: str | None, swapped: str | None, verdict: str | None, consistent: bool | None
) -> None:
    found = combine("pairwise", AB, Judged(given), Judged(swapped))
    assert (found.verdict, found.consistent, found.probabilities) == (verdict, consistent, {})


def test_half_known_probabilities_are_no_mean() -> None:
    found = combine("pairwise", AB, Judged("A", {"A": 0.6, "B": 0.4}), Judged("A"))
    assert (found.verdict, found.consistent, found.probabilities) == ("A", False, {})


def test_the_critique_is_of_an_order_that_found_the_verdict() -> None:
    given = Judged("A", {"A": 0.6, "B": 0.4}, "A is good.")
    swapped = Judged("A", {"A": 0.9, "B": 0.1}, "The first is good.", "completed")  # the caller's B
    assert combine("pairwise", AB, given).critique == "A is good."
    found = combine("pairwise", AB, given, swapped)
    assert (found.verdict, found.critique, found.parse_status) == ("B", "The first is good.", "completed")
    found = combine("pairwise", AB, given, Judged("B", {"A": 0.1, "B": 0.9}, "The second is good."))
    assert (found.verdict, found.critique, found.parse_status) == ("A", "A is good.", "ok")


def test_the_expected_score_weighs_each_score_by_its_probability() -> None:
    shares = {"1": 0.1, "2": 0.0, "3": 0.2, "4": 0.3, "5": 0.4}
    found = combine("absolute", SCALE, Judged("5", shares))
    assert found.expected_score == pytest.approx(0.1 + 0.6 + 1.2 + 2.0)
    assert expected_score("absolute", {}) is None
    assert expected_score("classification", {"Yes": 1.0, "No": 0.0}) is None


@for_all(st.tuples(st.floats(0, 1), st.floats(0, 1)))
def test_who_comes_first_does_not_change_the_probabilities(shares: tuple[float, float]) -> None:
    one, two = (Judged("A" if share >= 0.5 else "B", {"A": share, "B": 1 - share}) for share in shares)
    here, there = combine("pairwise", AB, one, two), combine("pairwise", AB, two, one)
    # The caller's responses the other way round: the same two answers, each for the other order.
    back = turned_back("pairwise", Judged(there.verdict, there.probabilities))
    assert here.probabilities == pytest.approx(dict(back.probabilities))
    assert here.consistent == there.consistent
