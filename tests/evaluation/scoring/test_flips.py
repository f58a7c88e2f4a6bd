"""Flips between two judges, and how far their probabilities are apart."""

from __future__ import annotations

import pytest
from scipy.special import rel_entr

from pipelines.evaluation.scoring.flips import Pair, Said, divergence, flips_of, largest_gap, total_variation


def pair(number: int, p: float, q: float) -> Pair:
    """Both judges' probability of A."""
    old, new = (Said("A" if a >= 0.5 else "B", {"A": a, "B": 1 - a}) for a in (p, q))
    return Pair(f"row {number}", f"row {number}", old, new)


def test_flips_are_counted_with_an_interval_and_by_margin() -> None:
    pairs = [pair(n, 0.52, 0.48) for n in range(3)] + [pair(n, 0.95, 0.9) for n in range(3, 40)]
    found = flips_of(pairs)
    low, high = found.interval
    assert found.share == pytest.approx(3 / 40) and low is not None and high is not None and 0 < low < 3 / 40 < high
    assert found.turned == {"A -> B": 3}
    assert {name: (one.n, one.value) for name, one in found.margins.items()} == {"0-0.1": (3, 1.0), "0.6-1": (37, 0.0)}


def test_margins_at_the_ends_of_bins_count_once() -> None:
    pairs = [Pair("x", "x", Said("A", {"A": p, "B": 1 - p}), Said("A")) for p in (0.5, 0.55, 0.65, 0.8, 1.0)]
    assert sum(one.n for one in flips_of(pairs).margins.values()) == 5


def test_no_flip_still_leaves_doubt_and_nothing_compared_says_so() -> None:
    low, high = flips_of([pair(n, 0.9, 0.9) for n in range(100)]).interval
    assert low == 0.0 and high is not None and 0.02 < high < 0.05  # Wilson: 3.7%
    none = flips_of([], {"row": "no_answer"})
    assert none.share is None and none.lost == {"row": "no_answer"}


def test_a_judge_without_probabilities_has_flips_and_no_margin() -> None:
    found = flips_of([Pair("x", "x", Said("A"), Said("B"))])
    assert found.share == 1.0 and found.margins == {}


def test_distances_agree_with_their_definitions() -> None:
    one, two = {"A": 0.7, "B": 0.2, "C": 0.1}, {"A": 0.5, "B": 0.2, "C": 0.3}
    assert total_variation(one, two) == pytest.approx(0.2) and largest_gap(one, two) == pytest.approx(0.2)
    assert divergence(one, two) == pytest.approx(float(sum(rel_entr(list(one.values()), list(two.values())))))
    assert divergence(one, one) == 0.0 and divergence({"A": 0.0, "B": 1.0}, {"A": 1.0, "B": 0.0}) > 20
