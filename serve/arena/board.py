"""The leaderboard of a database, computed when there are new votes, in a thread, and kept for a few seconds."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from sqlalchemy import Engine

from serve.arena.ratings.effects import Style
from serve.arena.ratings.leaderboard import Leaderboard, leaderboard
from serve.arena.store.database import reading
from serve.arena.store.reading import failures_of, judges_of, last_of, styles_of, votes_of


@dataclass(frozen=True)
class Shown:
    """A leaderboard, and battles that each judge has failed."""

    board: Leaderboard
    failures: dict[str, int]


class Board:
    """Keeps the last leaderboard. Belongs to one event loop.

    Args:
        engine: of the database.
        seed: of the intervals.
        resamples: behind an interval.
        refresh_s: seconds for which it is shown though there may be new votes.
    """

    def __init__(self, engine: Engine, *, seed: int, resamples: int, refresh_s: float) -> None:
        self.engine, self.seed, self.resamples, self.refresh_s = engine, seed, resamples, refresh_s
        self._lock = asyncio.Lock()
        self._shown: Shown | None = None
        self._looked = 0.0
        self._styles: dict[str, tuple[Style, Style]] = {}  # of all votes so far: they never change

    async def shown(self) -> Shown:
        """The leaderboard now, or as it was a few seconds ago."""
        async with self._lock:  # many who ask at once wait for one computation
            if self._shown is None or time.monotonic() - self._looked > self.refresh_s:
                self._shown = await asyncio.to_thread(self.compute)
                self._looked = time.monotonic()
            return self._shown

    def compute(self) -> Shown:
        """The leaderboard from the votes in the database; the former one where there are no new votes."""
        with reading(self.engine) as connection:
            judges, failures = judges_of(connection), failures_of(connection)
            former = self._shown.board if self._shown else None
            if former and former.votes == last_of(connection) and _retired(former) == judges:
                return Shown(former, failures)
            votes = votes_of(connection)
            self._styles |= styles_of(connection, after=len(self._styles))
        found = leaderboard(votes, judges, self._styles, seed=self.seed, resamples=self.resamples)
        return Shown(found, failures)


def _retired(board: Leaderboard) -> dict[str, bool]:
    return {one.judge: one.retired for one in board.standings}
