"""The paper's Elo: by hand, by a plain loop to the last digit, and by evalica."""

from __future__ import annotations

import math
from fractions import Fraction

import evalica
import pytest

from serve.arena.ratings import elo
from serve.arena.ratings.vote import SCORE, Vote
from tests.serve.arena.simulated import simulated

JUDGES = {"ash": 1300.0, "birch": 1250.0, "cedar": 1200.0, "elm": 1150.0, "fir": 1100.0}


def plain(votes: list[Vote]) -> dict[str, float]:
    """The recipe's words, one after the other."""
    rating: dict[str, float] = {}
    for vote in votes:
        a = rating.setdefault(vote.judge_a, 1200.0)
        b = rating.setdefault(vote.judge_b, 1200.0)
        points = {"a": 1.0, "b": 0.0}.get(vote.choice, 0.5)
        expected_a = 1 / (1 + 10 ** ((b - a) / 400))
        rating[vote.judge_a] = a + 32 * (points - expected_a)
        rating[vote.judge_b] = b + 32 * (expected_a - points)
    return rating


def test_first_battles_by_hand() -> None:
    assert elo.after(1200, 1200, 1.0) == (1216, 1184)
    assert elo.after(1200, 1200, 0.5) == (1200, 1200)
    # 400 points apart: the weaker one is expected to have 1/11 of the points.
    after_a, after_b = elo.after(1600, 1200, 0.0)
    assert after_a == pytest.approx(float(1600 - 32 * Fraction(10, 11)), abs=1e-12)
    assert after_b == pytest.approx(float(1200 + 32 * Fraction(10, 11)), abs=1e-12)


def test_ten_thousand_votes_are_a_plain_loop_to_the_last_digit() -> None:
    votes = simulated(JUDGES, 10_000, seed=1, ties=0.2)
    assert elo.ratings_of(votes) == plain(votes)  # equal, not about equal
    rating = elo.ratings_of(votes)
    assert math.isclose(sum(rating.values()), 1200 * len(JUDGES), abs_tol=1e-6)


def test_evalica_has_the_same_elo() -> None:
    votes = simulated(JUDGES, 3000, seed=2, ties=0.2)
    winner = {1.0: evalica.Winner.X, 0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw}
    found = evalica.elo(
        [vote.judge_a for vote in votes],
        [vote.judge_b for vote in votes],
        [winner[SCORE[vote.choice]] for vote in votes],
        initial=1200,
        k=32,
    ).scores
    assert elo.ratings_of(votes) == pytest.approx(found.to_dict(), abs=1e-8)


def test_the_order_of_votes_counts() -> None:
    votes = simulated(JUDGES, 500, seed=3)
    assert elo.ratings_of(votes) != elo.ratings_of(votes[::-1])


def test_the_shown_interval() -> None:
    assert elo.half_width(0) == pytest.approx(784)
    assert elo.half_width(299) == pytest.approx(1.96 * 400 / math.sqrt(300))
