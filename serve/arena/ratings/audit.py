"""How far a few votes move the ranking: without marked ones, without the busiest visitors, and at the least.

That a handful of votes can decide a rank is known of such leaderboards (arXiv 2508.11847 of dropped votes, 2501.17858
of added ones), so the figures are computed here, for the votes at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from serve.arena.ratings import bradley_terry, elo
from serve.arena.ratings.vote import Vote

BUSIEST = 5
MOST_ADDED = 1000


@dataclass(frozen=True)
class LeftOut:
    """What the ranking would be without some votes.

    Attributes:
        what: which ones.
        votes: how many.
        elo: judge -> (rank with them, rank without), of those whose rank changes.
        bradley_terry: the same by Bradley-Terry.
    """

    what: str
    votes: int
    elo: dict[str, tuple[int, int]]
    bradley_terry: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Gap:
    """How few votes turn two neighbours of the ranking.

    Attributes:
        upper: the better one.
        lower: the next one.
        removed: by Bradley-Terry: votes that can be left out so that they change places, found by their influence on
            the difference and checked by a fit. Fewer may exist. None: none were found.
        added: by Elo: further battles in a row that `lower` has to win against `upper`.
    """

    upper: str
    lower: str
    removed: int | None
    added: int | None


@dataclass(frozen=True)
class Audit:
    """The figures; `marks` counts the kinds of marks."""

    votes: int
    visitors: int
    marks: dict[str, int]
    left_out: list[LeftOut]
    by_elo: list[Gap]
    by_bradley_terry: list[Gap]


def audit(votes: Sequence[Vote], judges: Collection[str], marks: dict[str, set[str]]) -> Audit:
    """Audit the votes.

    Args:
        votes: in their order.
        judges: every judge that ever was.
        marks: kind of mark -> battles that have it.
    """
    visitors = Counter(vote.visitor for vote in votes if vote.visitor)
    marked = set().union(*marks.values())
    groups: list[tuple[str, set[str]]] = [("all marked votes", marked)]
    groups += [(f"votes marked {kind}", battles) for kind, battles in sorted(marks.items())]
    for place, (visitor, _) in enumerate(visitors.most_common(BUSIEST), start=1):
        groups.append((f"busiest visitor {place}", {vote.battle for vote in votes if vote.visitor == visitor}))
    ranks = _elo_ranks(votes), _strength_ranks(votes, judges)
    left_out = []
    for what, battles in groups:
        kept = [vote for vote in votes if vote.battle not in battles]
        moved = _moved(ranks[0], _elo_ranks(kept)), _moved(ranks[1], _strength_ranks(kept, judges))
        left_out.append(LeftOut(what, len(votes) - len(kept), *moved))
    ratings = elo.ratings_of(votes)
    return Audit(
        votes=len(votes),
        visitors=len(visitors),
        marks={kind: len(battles) for kind, battles in sorted(marks.items())},
        left_out=left_out,
        by_elo=[Gap(one, other, None, _added(ratings[one], ratings[other])) for one, other in _neighbours(ranks[0])],
        by_bradley_terry=[
            Gap(one, other, fewest_removed(votes, one, other), None) for one, other in _neighbours(ranks[1])
        ],
    )


def _elo_ranks(votes: Sequence[Vote]) -> dict[str, int]:
    return _ranks(elo.ratings_of(votes))


def _strength_ranks(votes: Sequence[Vote], judges: Collection[str]) -> dict[str, int]:
    found = bradley_terry.fit(votes, list(judges), resamples=0)
    return _ranks({name: strength.value for name, strength in found.strengths.items()})


def _ranks(ratings: dict[str, float]) -> dict[str, int]:
    order = sorted(ratings, key=lambda name: (-ratings[name], name))
    return {name: place for place, name in enumerate(order, start=1)}


def _moved(before: dict[str, int], now: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Judges whose rank changes; 0 is no rank."""
    pairs = {name: (rank, now.get(name, 0)) for name, rank in before.items()}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _neighbours(ranks: dict[str, int]) -> list[tuple[str, str]]:
    order = list(ranks)
    return list(pairwise(order))


def _added(upper: float, lower: float) -> int | None:
    """Battles that the lower must win in a row to stand above."""
    for number in range(1, MOST_ADDED + 1):
        lower, upper = elo.after(lower, upper, 1.0)
        if lower > upper:
            return number
    return None


def fewest_removed(votes: Sequence[Vote], upper: str, lower: str) -> int | None:
    """Votes that can be left out so that `lower` stands above `upper` by Bradley-Terry; None if none were found.

    Votes are taken in the order of their influence on the difference of the two strengths (one Newton step), and how
    many are needed is found by bisection over fits.
    """
    order = _by_influence(votes, upper, lower)
    names = sorted({name for vote in votes for name in (vote.judge_a, vote.judge_b)})

    def turned(number: int) -> bool:
        gone = {vote.battle for vote in order[:number]}
        kept = [vote for vote in votes if vote.battle not in gone]
        found = bradley_terry.fit(kept, names, resamples=0).strengths
        return upper in found and lower in found and found[lower].value > found[upper].value

    step = 1
    while step < len(order) and not turned(step):
        step *= 2
    most = min(step, len(order))
    if not order or not turned(most):
        return None
    least = step // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if turned(middle) else (middle, most)
    return most


def _by_influence(votes: Sequence[Vote], upper: str, lower: str) -> list[Vote]:
    """Votes that hold `upper` above `lower`, the strongest first."""
    found = bradley_terry.fit(
        votes, sorted({name for vote in votes for name in (vote.judge_a, vote.judge_b)}), resamples=0
    )
    number = {name: place for place, name in enumerate(found.strengths)}
    kept = [vote for vote in votes if vote.judge_a in number and vote.judge_b in number]
    logits = np.array([one.value for one in found.strengths.values()]) * np.log(10) / elo.SCALE
    a = np.array([number[vote.judge_a] for vote in kept], dtype=int)
    b = np.array([number[vote.judge_b] for vote in kept], dtype=int)
    expected = 1 / (1 + np.exp(logits[b] - logits[a]))
    weight = expected * (1 - expected)
    information = np.zeros((len(number), len(number)))
    np.add.at(information, (a, a), weight)
    np.add.at(information, (b, b), weight)
    np.add.at(information, (a, b), -weight)
    np.add.at(information, (b, a), -weight)
    contrast = np.zeros(len(number))
    contrast[number[upper]], contrast[number[lower]] = 1, -1
    direction = np.linalg.pinv(information) @ contrast
    pushes = (direction[a] - direction[b]) * (np.array([vote.score for vote in kept]) - expected)
    strongest = np.argsort(-pushes, kind="stable")
    return [kept[place] for place in strongest if pushes[place] > 0]
