"""What is read back: votes in their order, styles of critiques, marks, and whether stored ratings follow from votes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from serve.arena.ratings import elo
from serve.arena.ratings.effects import Style, style_of
from serve.arena.ratings.vote import Vote
from serve.arena.store.tables import BATTLES, JUDGES, JUDGMENTS, LAST, MARKS, RATINGS, VOTES

A, B = JUDGMENTS.alias("a"), JUDGMENTS.alias("b")
SIDES = VOTES.join(A, (A.c.battle == VOTES.c.battle) & (A.c.side == "A")).join(
    B, (B.c.battle == VOTES.c.battle) & (B.c.side == "B")
)


def votes_of(connection: Connection) -> list[Vote]:
    """All votes, in their order."""
    names = (VOTES.c.sequence, VOTES.c.battle, A.c.judge, B.c.judge, VOTES.c.choice, VOTES.c.visitor)
    rows = connection.execute(select(*names).select_from(SIDES).order_by(VOTES.c.sequence))
    return [Vote(*row) for row in rows]


def styles_of(connection: Connection, after: int = 0) -> dict[str, tuple[Style, Style]]:
    """Battle -> style of both critiques, of votes with a number above `after`."""
    chosen = select(VOTES.c.battle, A.c.critique, B.c.critique).select_from(SIDES).where(VOTES.c.sequence > after)
    return {battle: (style_of(one), style_of(other)) for battle, one, other in connection.execute(chosen)}


def judges_of(connection: Connection) -> dict[str, bool]:
    """Judge -> whether it has retired."""
    rows = connection.execute(select(JUDGES.c.name, JUDGES.c.retired_ms).order_by(JUDGES.c.name))
    return {name: retired is not None for name, retired in rows}


def marks_of(connection: Connection) -> dict[str, set[str]]:
    """Kind of mark -> battles that have it."""
    found: dict[str, set[str]] = {}
    for battle, kind in connection.execute(select(MARKS.c.battle, MARKS.c.kind)):
        found.setdefault(kind, set()).add(battle)
    return found


def failures_of(connection: Connection) -> dict[str, int]:
    """Judge -> battles that it has failed."""
    failed = JUDGMENTS.c.status.like("error:%")
    rows = connection.execute(select(JUDGMENTS.c.judge, func.count()).where(failed).group_by(JUDGMENTS.c.judge))
    return {row[0]: row[1] for row in rows}


def last_of(connection: Connection) -> int:
    """Number of the last vote."""
    return connection.execute(select(LAST.c.sequence)).scalar_one()


@dataclass(frozen=True)
class Checked:
    """What a replay of the votes says of what is stored; `problems` is empty if all is well."""

    votes: int
    battles: int
    problems: list[str]


def check(connection: Connection) -> Checked:
    """Replay all votes and compare every stored rating with them, to the last digit."""
    votes = votes_of(connection)
    count = connection.execute(select(func.count()).select_from(VOTES)).scalar_one()
    battles = connection.execute(select(func.count()).select_from(BATTLES)).scalar_one()
    problems = []
    if count != len(votes):
        problems.append(f"{count - len(votes)} votes are of battles without two judgments")
    if [vote.sequence for vote in votes] != list(range(1, len(votes) + 1)):
        problems.append("the numbers of the votes are not 1, 2, 3 and so on")
    if last_of(connection) != count:
        problems.append("the number of the last vote is not the number of votes")
    told = select(VOTES.c.sequence, VOTES.c.elo_a, VOTES.c.elo_b).order_by(VOTES.c.sequence)
    for (vote, *ratings), (_, *stored) in zip(elo.replay(votes), connection.execute(told), strict=False):
        if ratings != stored:
            problems.append(f"vote {vote.sequence}: stored ratings {stored}, recomputed {ratings}")
            break  # all that follow would differ too
    problems += _ratings(connection, votes)
    return Checked(count, battles, problems)


def _ratings(connection: Connection, votes: Iterable[Vote]) -> Iterable[str]:
    votes = list(votes)
    ratings = elo.ratings_of(votes)
    for judge, stored, number in connection.execute(select(RATINGS)):
        rating = ratings.get(judge, elo.START)
        fought = sum(judge in (vote.judge_a, vote.judge_b) for vote in votes)
        if (stored, number) != (rating, fought):
            yield f"{judge}: stored {stored} after {number} votes, recomputed {rating} after {fought}"
