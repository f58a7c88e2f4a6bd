"""The Elo of the paper's arena (§3.3, [12]): from 1200, K 32, a tie is half a point, vote after vote in their order."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from serve.arena.ratings.vote import Vote

START = 1200.0
K = 32.0
SCALE = 400.0  # points that make the odds ten times as good
PRELIMINARY = 300  # votes below which a rating is preliminary


def after(rating_a: float, rating_b: float, score: float) -> tuple[float, float]:
    """Both ratings after one battle.

    Args:
        rating_a: before it.
        rating_b: before it.
        score: points of A: 1, 0.5 or 0.
    """
    expected = 1.0 / (1.0 + 10.0 ** ((rating_b - rating_a) / SCALE))
    change = K * (score - expected)
    return rating_a + change, rating_b - change


def half_width(votes: int) -> float:
    """Half the interval that the arena shows beside a rating: 1.96 · 400 / √(votes + 1).

    It is a display, and no confidence interval: it does not depend on what the votes say.
    """
    return 1.96 * SCALE / math.sqrt(votes + 1)


def replay(votes: Iterable[Vote]) -> Iterator[tuple[Vote, float, float]]:
    """Every vote with both ratings after it, from the start. The last ones of each judge are its ratings now."""
    ratings: dict[str, float] = {}
    for vote in votes:
        before = ratings.get(vote.judge_a, START), ratings.get(vote.judge_b, START)
        ratings[vote.judge_a], ratings[vote.judge_b] = after(*before, vote.score)
        yield vote, ratings[vote.judge_a], ratings[vote.judge_b]


def ratings_of(votes: Iterable[Vote]) -> dict[str, float]:
    """Rating of every judge that has a vote."""
    found: dict[str, float] = {}
    for vote, rating_a, rating_b in replay(votes):
        found[vote.judge_a], found[vote.judge_b] = rating_a, rating_b
    return found
