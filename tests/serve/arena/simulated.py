"""Votes from known strengths."""

from __future__ import annotations

import numpy as np

from serve.arena.ratings.vote import Vote


def simulated(strengths: dict[str, float], count: int, seed: int, ties: float = 0.0, visitors: int = 50) -> list[Vote]:
    """Votes of visitors who follow Bradley-Terry.

    Args:
        strengths: judge -> points of Elo's scale.
        count: votes.
        seed: of all draws.
        ties: share of votes that are a tie, whatever the strengths.
        visitors: among whom the votes are spread.
    """
    rng = np.random.default_rng(seed)
    names = list(strengths)
    points = np.array(list(strengths.values()))
    a = rng.integers(len(names), size=count)
    b = (a + rng.integers(1, len(names), size=count)) % len(names)
    wins = rng.random(count) < 1 / (1 + 10 ** ((points[b] - points[a]) / 400))
    tied = rng.random(count) < ties
    bad = rng.random(count) < 0.5
    visitor = rng.integers(visitors, size=count)
    return [
        Vote(
            place + 1,
            f"b{place}",
            names[a[place]],
            names[b[place]],
            ("both_bad" if bad[place] else "tie") if tied[place] else ("a" if wins[place] else "b"),
            f"v{visitor[place]}",
        )
        for place in range(count)
    ]
