"""A vote and its acknowledgement, in one transaction.

Votes have one order: who votes holds the row of `last` until its transaction has ended. So Elo is what a replay gives,
and numbers have no gap. A vote that is sent again, since its answer was lost, gets the answer that is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, Row, insert, select, update

from serve.arena.ratings import elo
from serve.arena.ratings.vote import SCORE, Choice
from serve.arena.store.marks import seen
from serve.arena.store.tables import BATTLES, JUDGMENTS, LAST, MARKS, RATINGS, VOTES
from serve.refused import Refused


@dataclass(frozen=True)
class Acknowledged:
    """What a visitor is told of a vote.

    Attributes:
        sequence: number of the vote.
        judge_a: who was A.
        judge_b: who was B.
        elo_a: rating of A (before, after).
        elo_b: rating of B (before, after).
        repeated: the vote had been counted before.
    """

    sequence: int
    judge_a: str
    judge_b: str
    elo_a: tuple[float, float]
    elo_b: tuple[float, float]
    repeated: bool


def vote(
    engine: Engine,
    battle: str,
    choice: Choice,
    visitor: str,
    now_ms: int,
    marks: Sequence[str] = (),
    known_as: Mapping[str, Sequence[str]] | None = None,
) -> Acknowledged:
    """Count a vote, once.

    Args:
        engine: of the database.
        battle: its id.
        choice: what the visitor says.
        visitor: keyed hash of the address.
        now_ms: milliseconds since 1970.
        marks: kinds of marks to keep beside the vote, with those that battle and votes so far tell.
        known_as: judge -> names by which a critique would give it away.

    Raises:
        Refused: there is no such battle (404), or it has another vote (409).
    """
    with engine.begin() as connection:
        last = connection.execute(select(LAST.c.sequence).where(LAST.c.id == 1).with_for_update()).scalar_one()
        judges = _judges(connection, battle)
        given = connection.execute(select(VOTES).where(VOTES.c.battle == battle)).one_or_none()
        if given is not None:
            if given.choice != choice:
                raise Refused(409, "already_voted", "this battle has a vote")
            return _told(given, judges, repeated=True)
        names = [name for judge in judges for name in (known_as or {}).get(judge, ())]
        # Before this vote is one of those that it is compared with.
        kinds = sorted({*marks, *seen(connection, battle, visitor, now_ms, names)})
        ratings = {row.judge: row for row in connection.execute(select(RATINGS).where(RATINGS.c.judge.in_(judges)))}
        before = ratings[judges[0]].elo, ratings[judges[1]].elo
        now = elo.after(*before, SCORE[choice])
        for judge, rating in zip(judges, now, strict=True):
            changed = {"elo": rating, "votes": ratings[judge].votes + 1}
            connection.execute(update(RATINGS).where(RATINGS.c.judge == judge).values(changed))
        written = connection.execute(
            insert(VOTES)
            .values(
                sequence=last + 1,
                battle=battle,
                choice=choice,
                at_ms=now_ms,
                visitor=visitor,
                elo_a_before=before[0],
                elo_b_before=before[1],
                elo_a=now[0],
                elo_b=now[1],
            )
            .returning(VOTES)
        ).one()
        if kinds:
            connection.execute(insert(MARKS), [{"battle": battle, "kind": kind} for kind in kinds])
        connection.execute(update(LAST).where(LAST.c.id == 1).values(sequence=last + 1))
        return _told(written, judges, repeated=False)


def _judges(connection: Connection, battle: str) -> tuple[str, str]:
    found = connection.execute(
        select(JUDGMENTS.c.judge)
        .join(BATTLES, BATTLES.c.id == JUDGMENTS.c.battle)
        .where(JUDGMENTS.c.battle == battle, BATTLES.c.status == "ok")
        .order_by(JUDGMENTS.c.side)
    ).scalars()
    judges = tuple(found)
    if len(judges) != 2:
        raise Refused(404, "no_such_battle", "there is no such battle")
    return judges


def _told(row: Row, judges: tuple[str, str], *, repeated: bool) -> Acknowledged:
    return Acknowledged(row.sequence, *judges, (row.elo_a_before, row.elo_a), (row.elo_b_before, row.elo_b), repeated)
