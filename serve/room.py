"""A bound on the judgments and chats under way: a request finds room at once or is refused, a batch waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from serve.refused import Refused

if TYPE_CHECKING:
    from serve.watch import Watch

RETRY_AFTER = 2  # seconds
BATCH_SHARE = 0.5  # of all places: batches leave the rest to single requests


class Room:
    """Counts judgments and choices of chats. Belongs to one event loop.

    Args:
        places: most of them at once.
        watch: is told the number after every change.
    """

    def __init__(self, places: int, watch: Watch) -> None:
        self.places, self.watch = places, watch
        self.for_batches = max(1, int(places * BATCH_SHARE))
        self.taken = 0
        self.taken_by_batches = 0
        self.changed = asyncio.Condition()

    @asynccontextmanager
    async def take(self, count: int, *, wait: bool = False) -> AsyncIterator[None]:
        """Hold `count` places.

        Args:
            count: judgments or choices.
            wait: for room, as a batch does, in place of being refused.

        Raises:
            Refused: there is no room (503), or there never can be (422).
        """
        most = self.for_batches if wait else self.places
        if count > most:
            raise Refused(422, "too_many_judgments", f"{count} answers in one request; at most {most} here")
        if wait:
            async with self.changed:
                await self.changed.wait_for(lambda: self._fits(count))
                self._add(count, batch=True)
        elif self.taken + count > self.places:
            self.watch.refused("queue")
            raise Refused(503, "queue_full", "the service is full", retry_after=RETRY_AFTER)
        else:
            self._add(count, batch=False)
        try:
            yield
        finally:
            self._add(-count, batch=wait)
            # Told by a task of its own: to take the lock here could be cancelled, and a waiting batch would sleep on.
            self.telling = asyncio.ensure_future(self._tell())

    def _fits(self, count: int) -> bool:
        return self.taken + count <= self.places and self.taken_by_batches + count <= self.for_batches

    def _add(self, count: int, *, batch: bool) -> None:
        self.taken += count
        self.taken_by_batches += count if batch else 0
        self.watch.waiting(self.taken)

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()
