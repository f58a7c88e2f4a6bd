"""Bradley-Terry strengths by evalica, with intervals from resampled votes.

A tie counts as half a win for each. Strengths are on Elo's scale: 400 points are odds of ten to one, and the mean of
the rated judges is 1200.

The likelihood has a finite maximum only among judges of which each can be reached from each other by a chain of wins
(Ford 1957). Judges outside the largest such group have no rating, and are named with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse.csgraph import connected_components

from serve.arena.ratings.elo import SCALE, START
from serve.arena.ratings.vote import CHOICES, SCORE, Vote

RESAMPLES = 500
LEVEL = 0.95
LIMIT, TOLERANCE = 10_000, 1e-10  # of evalica's iteration
LOST = 1 - LEVEL  # share of resamples without a finite maximum from which on there are no intervals


@dataclass(frozen=True)
class Strength:
    """A judge's strength, in points of Elo's scale; no interval where there can be none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Fit:
    """What the votes say of the judges.

    Attributes:
        strengths: of the judges that are rated.
        unrated: judge -> why it is not.
        notes: what a reader has to know, in sentences.
    """

    strengths: dict[str, Strength]
    unrated: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def fit(votes: Sequence[Vote], judges: Sequence[str], *, seed: int = 0, resamples: int = RESAMPLES) -> Fit:
    """Fit all judges that can be compared.

    Args:
        votes: in any order.
        judges: whom to rate; votes name no others.
        seed: of the resampling.
        resamples: how many; 0 gives no intervals.
    """
    names = sorted(judges)
    cells = _cells(votes, names)
    wins = _wins(cells)
    group = _largest_group(wins)
    unrated = _reasons(wins, names, group)
    notes = _notes(votes, names, wins, group)
    if len(group) < 2:
        return Fit({}, unrated, notes)
    points = _points(wins[np.ix_(group, group)])
    if points is None:
        return Fit({}, unrated, [*notes, "Bradley-Terry did not converge."])
    low = high = None
    if resamples and not _all_ties(votes):
        low, high, said = _intervals(cells, group, seed, resamples)
        notes += said
    strengths = {
        names[judge]: Strength(
            float(points[place]),
            None if low is None else float(low[place]),
            None if high is None else float(high[place]),
        )
        for place, judge in enumerate(group)
    }
    return Fit(strengths, unrated, notes)


def _cells(votes: Sequence[Vote], names: Sequence[str]) -> np.ndarray:
    """Votes as counts (judges, judges, choices): of a as A, b as B and a choice."""
    number = {name: place for place, name in enumerate(names)}
    counts = np.zeros((len(names), len(names), len(CHOICES)), dtype=np.int64)
    for vote in votes:
        counts[number[vote.judge_a], number[vote.judge_b], CHOICES.index(vote.choice)] += 1
    return counts


def _wins(cells: np.ndarray) -> np.ndarray:
    """How often each judge has beaten each other (judges, judges), a tie half for each."""
    scores = np.array([SCORE[choice] for choice in CHOICES])
    return cells @ scores + (cells @ (1 - scores)).T


def _largest_group(wins: np.ndarray) -> np.ndarray:
    """Numbers of the judges of the largest group that chains of wins connect both ways; most battles decide a draw."""
    if not len(wins):
        return np.array([], dtype=int)
    _, labels = connected_components(wins > 0, directed=True, connection="strong")
    battles = wins.sum(axis=0) + wins.sum(axis=1)
    best = max(set(labels.tolist()), key=lambda one: (np.sum(labels == one), battles[labels == one].sum(), -one))
    return np.flatnonzero(labels == best)


def _points(wins: np.ndarray) -> np.ndarray | None:
    """Strengths of connected judges in points; None if the iteration does not end."""
    import evalica

    first, second = np.nonzero(wins)
    found = evalica.bradley_terry(
        first.tolist(),
        second.tolist(),
        [evalica.Winner.X] * len(first),
        weights=wins[first, second].tolist(),
        tolerance=TOLERANCE,
        limit=LIMIT,
    )
    if found.iterations >= LIMIT:
        return None
    logs = np.log10(found.scores.reindex(range(len(wins))).to_numpy())
    return np.asarray(START + SCALE * (logs - logs.mean()))


def _intervals(
    cells: np.ndarray, group: np.ndarray, seed: int, resamples: int
) -> tuple[np.ndarray | None, np.ndarray | None, list[str]]:
    """Percentiles over resampled votes; (None, None, why) if too many resamples have no finite maximum."""
    inside = cells[np.ix_(group, group)]
    total = int(inside.sum())
    drawn = np.random.default_rng(seed).multinomial(total, inside.ravel() / total, size=resamples)
    found = []
    for counts in drawn:
        wins = _wins(counts.reshape(inside.shape))
        if len(_largest_group(wins)) == len(group) and (points := _points(wins)) is not None:
            found.append(points)
    lost = 1 - len(found) / resamples
    if lost > LOST:
        share = f"{lost:.0%} of the resampled sets of votes"
        return None, None, [f"No Bradley-Terry intervals: {share} do not connect the judges. More votes are needed."]
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(np.array(found), [tail, 1 - tail], axis=0)
    said = [f"{lost:.1%} of the resampled sets of votes do not connect the judges and are left out."] if lost else []
    return low, high, said


def _all_ties(votes: Sequence[Vote]) -> bool:
    return all(vote.score == 0.5 for vote in votes)


def _reasons(wins: np.ndarray, names: Sequence[str], group: np.ndarray) -> dict[str, str]:
    """Why each judge outside the group has no rating."""
    inside = set(group.tolist()) if len(group) > 1 else set()
    found = {}
    for place, name in enumerate(names):
        if place in inside:
            continue
        won, lost = wins[place].sum(), wins[:, place].sum()
        met = any(wins[place, other] + wins[other, place] > 0 for other in inside)
        if not won and not lost:
            found[name] = "no votes"
        elif not won:
            found[name] = "has lost every battle"
        elif not lost:
            found[name] = "has won every battle"
        elif inside and not met:
            found[name] = "has met none of the rated judges"
        else:
            found[name] = "no chain of wins leads to it and back"
    return found


def _notes(votes: Sequence[Vote], names: Sequence[str], wins: np.ndarray, group: np.ndarray) -> list[str]:
    if not votes:
        return ["There are no votes yet."]
    notes = ["There is one vote: it says next to nothing."] if len(votes) == 1 else []
    if _all_ties(votes):
        notes.append("All votes are ties: there is no order among the judges, and there are no intervals.")
    played = np.flatnonzero(wins.sum(axis=0) + wins.sum(axis=1))
    apart, _ = connected_components(wins[np.ix_(played, played)] > 0, directed=False)
    if apart > 1:
        notes.append(f"The judges fall into {apart} groups that have never met: Bradley-Terry rates the largest alone.")
    if len(group) < 2:
        notes.append("No judges are connected by wins both ways, so that Bradley-Terry has no finite solution.")
    return notes
