"""Lines of a request's body as they arrive: bounded ahead of the work, and never the whole body in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.types import Receive

from serve.errors import ClientGone
from serve.refused import Refused


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        number: from 1; empty lines count.
        text: without its end; None if it was too long to keep.
    """

    number: int
    text: bytes | None


@dataclass(frozen=True)
class LineLimits:
    """What a batch may have: bytes of a line, bytes and lines in all, seconds without a byte."""

    line_bytes: int
    bytes: int
    lines: int
    idle: float


class Lines:
    """Reads a body ahead of the work, so that a hang-up is noticed while lines wait.

    Args:
        receive: of the request; nothing else may read from it.
        limits: of the batch.
    """

    def __init__(self, receive: Receive, limits: LineLimits) -> None:
        self.receive, self.limits = receive, limits
        self.ready: deque[Line] = deque()
        self.held = 0  # bytes of `ready`
        self.changed = asyncio.Condition()
        self.ended = False
        self.broken: Refused | None = None

    async def read(self) -> None:
        """Read to the body's end, then wait for the client to hang up: run it beside the work.

        Raises:
            ClientGone: it has.
        """
        try:
            async for line in self._split():
                async with self.changed:
                    self.ready.append(line)
                    self.held += len(line.text or b"")
                    self.changed.notify_all()
                    # As much ahead as the longest line: while this waits, nobody would hear a client hang up.
                    await self.changed.wait_for(lambda: self.held <= self.limits.line_bytes)
        except Refused as exc:
            self.broken = exc
        async with self.changed:
            self.ended = True
            self.changed.notify_all()
        while (await self.receive())["type"] != "http.disconnect":
            pass
        raise ClientGone

    async def __aiter__(self) -> AsyncIterator[Line]:
        """The lines.

        Raises:
            Refused: the body breaks a limit here; the lines before it have come.
        """
        while True:
            async with self.changed:
                await self.changed.wait_for(lambda: self.ready or self.ended)
                if not self.ready:
                    break
                line = self.ready.popleft()
                self.held -= len(line.text or b"")
                self.changed.notify_all()
            yield line
        if self.broken is not None:
            raise self.broken

    async def _split(self) -> AsyncIterator[Line]:
        number, start, skipping = 1, bytearray(), False
        async for chunk in self._chunks():
            *whole, rest = chunk.split(b"\n")
            for piece in whole:
                kept = None if skipping or len(start) + len(piece) > self.limits.line_bytes else bytes(start) + piece
                if kept is None or kept.strip():
                    yield Line(number, kept)
                number, start, skipping = number + 1, bytearray(), False
                if number > self.limits.lines + 1:
                    raise Refused(413, "too_many_lines", f"a batch has at most {self.limits.lines} lines")
            start += rest
            if len(start) > self.limits.line_bytes:
                start, skipping = bytearray(), True
        if number > self.limits.lines and (start.strip() or skipping):
            raise Refused(413, "too_many_lines", f"a batch has at most {self.limits.lines} lines")
        if skipping or start.strip():
            yield Line(number, None if skipping else bytes(start))

    async def _chunks(self) -> AsyncIterator[bytes]:
        size, more = 0, True
        while more:
            try:
                async with asyncio.timeout(self.limits.idle):
                    message = await self.receive()
            except TimeoutError:
                said = f"nothing came for {self.limits.idle:g} seconds"
                raise Refused(504, "timeout", said) from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk, more = message.get("body", b""), message.get("more_body", False)
            size += len(chunk)
            if size > self.limits.bytes:
                raise Refused(413, "batch_too_large", f"a batch has at most {self.limits.bytes} bytes")
            yield chunk
