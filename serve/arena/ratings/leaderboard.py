"""The leaderboard: one line a judge, the win matrix, and what has to be said beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.core.determinism import integer
from serve.arena.ratings import bradley_terry, elo
from serve.arena.ratings.bradley_terry import Strength
from serve.arena.ratings.effects import Effects, Style, effects
from serve.arena.ratings.vote import Vote


@dataclass(frozen=True)
class Standing:
    """One judge.

    Attributes:
        rank: by Elo, from 1; judges without a vote come last.
        judge: its name.
        retired: it takes part in no new battle.
        elo: the paper's rating.
        elo_half_width: what is shown as ± beside it.
        preliminary: it has fewer votes than a rating needs.
        strength: Bradley-Terry; None if it cannot be rated.
        unrated: why not.
        controlled: its strength at equal style and side, if that could be measured.
        votes: battles with a vote.
        wins: of them won.
        losses: of them lost.
        ties: of them a tie.
        both_bad: of them both were bad.
    """

    rank: int
    judge: str
    retired: bool
    elo: float
    elo_half_width: float
    preliminary: bool
    strength: Strength | None
    unrated: str
    controlled: float | None
    votes: int
    wins: int
    losses: int
    ties: int
    both_bad: int

    @property
    def win_rate(self) -> float | None:
        """Share of its battles that it won, a tie half; None without votes."""
        return (self.wins + 0.5 * (self.ties + self.both_bad)) / self.votes if self.votes else None


@dataclass(frozen=True)
class Meeting:
    """How a judge did against another: points (a tie is half) out of battles."""

    points: float
    battles: int


@dataclass(frozen=True)
class Leaderboard:
    """All of it.

    Attributes:
        votes: how many there are.
        standings: in the order of their ranks.
        matrix: judge -> other judge -> how it did against it, where they have met.
        notes: in sentences.
        effects: side and style.
        history: judge -> (vote, Elo after it), from its first vote on.
    """

    votes: int
    standings: list[Standing]
    matrix: dict[str, dict[str, Meeting]]
    effects: Effects
    notes: list[str] = field(default_factory=list)
    history: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def leaderboard(
    votes: Sequence[Vote],
    judges: Mapping[str, bool],
    styles: Mapping[str, tuple[Style, Style]] | None = None,
    *,
    seed: int = 0,
    resamples: int = bradley_terry.RESAMPLES,
) -> Leaderboard:
    """Everything that follows from the votes, and from nothing else.

    Args:
        votes: in their order.
        judges: name -> whether it has retired; every judge that ever was.
        styles: battle -> style of A and of B.
        seed: of the intervals, with the number of votes.
        resamples: for the intervals.
    """
    history: dict[str, list[tuple[int, float]]] = {name: [] for name in judges}
    for vote, rating_a, rating_b in elo.replay(votes):
        history[vote.judge_a].append((vote.sequence, rating_a))
        history[vote.judge_b].append((vote.sequence, rating_b))
    drawn = integer(seed, "arena_bootstrap", str(len(votes)))
    fitted = bradley_terry.fit(votes, list(judges), seed=drawn, resamples=resamples)
    moved = effects(votes, styles or {}, list(fitted.strengths))
    counts = {name: _counts(votes, name) for name in judges}
    rating = {name: line[-1][1] if line else elo.START for name, line in history.items()}
    order = sorted(judges, key=lambda name: (not history[name], -rating[name], name))
    standings = [
        Standing(
            rank=place,
            judge=name,
            retired=judges[name],
            elo=rating[name],
            elo_half_width=elo.half_width(len(history[name])),
            preliminary=len(history[name]) < elo.PRELIMINARY,
            strength=fitted.strengths.get(name),
            unrated=fitted.unrated.get(name, ""),
            controlled=moved.controlled.get(name),
            votes=len(history[name]),
            wins=counts[name]["win"],
            losses=counts[name]["loss"],
            ties=counts[name]["tie"],
            both_bad=counts[name]["both_bad"],
        )
        for place, name in enumerate(order, start=1)
    ]
    notes = [*fitted.notes, *moved.notes]
    return Leaderboard(len(votes), standings, _matrix(votes, order), moved, notes, history)


def _counts(votes: Sequence[Vote], name: str) -> Counter[str]:
    won = {"a": "win", "b": "loss"}
    lost = {"a": "loss", "b": "win"}
    found: Counter[str] = Counter()
    for vote in votes:
        if name == vote.judge_a:
            found[won.get(vote.choice, vote.choice)] += 1
        elif name == vote.judge_b:
            found[lost.get(vote.choice, vote.choice)] += 1
    return found


def _matrix(votes: Sequence[Vote], order: Sequence[str]) -> dict[str, dict[str, Meeting]]:
    points: Counter[tuple[str, str]] = Counter()
    battles: Counter[tuple[str, str]] = Counter()
    for vote in votes:
        for one, other, score in (
            (vote.judge_a, vote.judge_b, vote.score),
            (vote.judge_b, vote.judge_a, 1 - vote.score),
        ):
            points[one, other] += score  # type: ignore[assignment]
            battles[one, other] += 1
    return {
        one: {other: Meeting(points[one, other], battles[one, other]) for other in order if battles[one, other]}
        for one in order
    }
