"""Which judges there are. One that leaves keeps its battles, votes and rating."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine, insert, select, update

from pipelines.core.errors import UserError
from serve.arena.ratings.elo import START
from serve.arena.store.tables import JUDGES, LAST, RATINGS


def enter(engine: Engine, fingerprints: Mapping[str, str], now_ms: int) -> None:
    """Make the config's judges those that fight: new ones begin at 1200, missing ones retire, former ones return.

    Args:
        engine: of the database.
        fingerprints: judge -> what it is.
        now_ms: milliseconds since 1970.

    Raises:
        UserError: a name was another judge's: its votes would be of two.
    """
    with engine.begin() as connection:
        # One server at a time: what another one enters is seen here, and not entered twice.
        connection.execute(select(LAST.c.sequence).where(LAST.c.id == 1).with_for_update()).scalar_one()
        known = {row.name: row for row in connection.execute(select(JUDGES))}
        for name, fingerprint in fingerprints.items():
            if name not in known:
                connection.execute(insert(JUDGES).values(name=name, fingerprint=fingerprint, added_ms=now_ms))
                connection.execute(insert(RATINGS).values(judge=name, elo=START, votes=0))
            elif known[name].fingerprint != fingerprint:
                raise UserError(
                    "this name has votes or battles of another model, template or setting",
                    where=f"judges.{name}",
                    fix="give the changed judge a name of its own; the old one keeps its rating",
                )
            elif known[name].retired_ms is not None:
                connection.execute(update(JUDGES).where(JUDGES.c.name == name).values(retired_ms=None))
        for name, row in known.items():
            if name not in fingerprints and row.retired_ms is None:
                connection.execute(update(JUDGES).where(JUDGES.c.name == name).values(retired_ms=now_ms))
