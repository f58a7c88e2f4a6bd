"""How much one key may ask for: requests in a moving minute, and requests under way at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.storage import storage_from_string

MEMORY = "async+memory://"
SWEEP = 5.0  # seconds between two sweeps of windows in memory
PATIENCE = 0.5  # seconds for an answer of a shared storage
_log = logging.getLogger("openselene.limits")


class Limits:
    """The counts of all keys.

    Args:
        storage: URL of the library `limits`; the windows of `async+memory://` are this process's own.

    A shared storage that fails or does not answer is no reason to refuse: its requests are counted here instead, and
    one line a minute says so.
    """

    def __init__(self, storage: str = MEMORY) -> None:
        self._memory = MemoryStorage()
        self._here = MovingWindowRateLimiter(self._memory)
        self._rest: asyncio.Task[None] | None = None
        self._shared = MovingWindowRateLimiter(storage_from_string(storage)) if storage != MEMORY else None
        self._under_way: Counter[str] = Counter()
        self._complained = -60.0

    def enter(self, key: str, most: int) -> bool:
        """Take one of the key's places; False if none is free."""
        if self._under_way[key] >= most:
            return False
        self._under_way[key] += 1
        return True

    def leave(self, key: str) -> None:
        """Give a place back."""
        self._under_way[key] -= 1
        if self._under_way[key] <= 0:
            del self._under_way[key]

    async def hit(self, key: str, per_minute: int) -> float:
        """Count one request; returns the seconds until it may be tried again, 0 if it may go on."""
        item = RateLimitItemPerMinute(per_minute)
        if self._shared is not None:
            try:
                return await asyncio.wait_for(_hit(self._shared, item, key), PATIENCE)
            except Exception as exc:  # of any client library
                if time.monotonic() - self._complained >= 60:
                    self._complained = time.monotonic()
                    _log.error("rate storage: %s; each replica counts by itself", type(exc).__name__)
        wait = await _hit(self._here, item, key)
        # The library sweeps with every hit, in a thread: more work than all else here. While its timer runs it does
        # not, so the timer of a sweep is made to last longer.
        if self._memory.timer is not self._rest and self._memory.timer is not None:
            self._memory.timer = self._rest = asyncio.create_task(_resting(self._memory.timer))
        return wait


async def _resting(sweep: asyncio.Task[None]) -> None:
    # Not `await sweep`: the library's task ends quietly when it is cancelled, and a cancelled rest would then go on.
    await asyncio.wait({sweep})
    await asyncio.sleep(SWEEP)


async def _hit(window: MovingWindowRateLimiter, item: RateLimitItemPerMinute, key: str) -> float:
    if await window.hit(item, key):
        return 0.0
    free = await window.get_window_stats(item, key)
    return max(free.reset_time - time.time(), 0.01)


@dataclass(frozen=True)
class Caller:
    """Who asks, for the app: `scope["caller"]`.

    Args:
        key: id of the key; empty on loopback without keys.
        scopes: of the key.
    """

    key: str
    scopes: frozenset[str]
    _limits: Limits | None = None
    _per_minute: int = 0
    _sleep: Callable[[float], asyncio.Future[None]] = asyncio.sleep  # type: ignore[assignment]

    async def turn(self) -> None:
        """Wait until the key may make one request more: each line of a batch but the first calls this."""
        while self._limits is not None and (wait := await self._limits.hit(self.key, self._per_minute)):
            await self._sleep(wait)
