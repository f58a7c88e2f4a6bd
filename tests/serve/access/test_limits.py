"""Windows of keys, and a shared storage that fails."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from serve.access.limits import Limits


def test_a_window_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [time.time()]
    monkeypatch.setattr("limits.aio.storage.memory.time.time", lambda: clock[0])

    async def all_of() -> None:
        limits = Limits()
        assert await limits.hit("a", 2) == 0
        clock[0] += 40
        assert await limits.hit("a", 2) == 0
        assert 19 < await limits.hit("a", 2) <= 20
        assert await limits.hit("b", 2) == 0
        clock[0] += 20.1  # the first is out of the window, the second is not
        assert await limits.hit("a", 2) == 0
        assert 39 < await limits.hit("a", 2) <= 40

    asyncio.run(all_of())


def test_places_are_counted_for_each_key() -> None:
    limits = Limits()
    assert limits.enter("a", 1) and not limits.enter("a", 1) and limits.enter("b", 1)
    limits.leave("a")
    assert limits.enter("a", 1)


def test_old_windows_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [time.time()]
    monkeypatch.setattr("limits.aio.storage.memory.time.time", lambda: clock[0])
    monkeypatch.setattr("serve.access.limits.SWEEP", 0.01)

    async def all_of() -> int:
        limits = Limits()
        for key in range(50):
            await limits.hit(str(key), 5)
        assert limits._rest is not None
        await limits._rest  # the first sweep, which finds nothing old
        clock[0] += 61
        for _ in range(20):
            await limits.hit("now", 1000)
            await asyncio.sleep(0.02)
        return len(limits._memory.events)

    assert asyncio.run(all_of()) == 1


@pytest.mark.parametrize("how", ["fails", "hangs"])
def test_a_shared_storage_that_does_not_answer_is_replaced_by_memory(
    how: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stub storage; no Redis."""
    monkeypatch.setattr("serve.access.limits.PATIENCE", 0.02)

    class Shared:
        async def hit(self, *_: object) -> bool:
            if how == "hangs":
                await asyncio.sleep(10)
            raise ConnectionError("redis://user:SECRET@host")

    async def all_of() -> None:
        limits = Limits()
        limits._shared = Shared()  # type: ignore[assignment]
        assert [await limits.hit("a", 2) > 0 for _ in range(3)] == [False, False, True]

    asyncio.run(all_of())
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.ERROR
    assert "SECRET" not in caplog.text
