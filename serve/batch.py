"""Many requests in one: NDJSON in, NDJSON out, each line answered as soon as it is judged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError
from starlette.types import Receive, Send

from serve.errors import invalid_json, not_understood, refusal
from serve.lines import Line, LineLimits, Lines
from serve.live import Live, head
from serve.refused import Refused
from serve.schemas import ID_CHARACTERS, LARGEST_ID, BatchLine, BatchResult, LineError
from serve.service import JudgeService

NDJSON = "application/x-ndjson"
Turn = Callable[[], Awaitable[None]]
_LINE: TypeAdapter[Any] = TypeAdapter(BatchLine)


class Batch(Live):
    """The answer to a batch: results in order of completion, with the caller's ids.

    A bad line costs itself alone. What is wrong with the batch (too long, too large) ends it with a last error line;
    lines before it are answered.

    Args:
        service: the judge.
        turn: waits until the key may make one request more; called for each line but the first, which the request
            itself stands for.
    """

    def __init__(self, service: JudgeService, turn: Turn | None = None) -> None:
        super().__init__(self._stream)
        self.service, self.settings, self.turn = service, service.settings, turn
        self.seen: set[tuple[type, str | int]] = set()
        # Lines that are judged, wait for room or for the client to read: more are not taken from the body.
        self.window = asyncio.Semaphore(service.room.for_batches)
        self.writing = asyncio.Lock()
        self.begun = False

    async def _stream(self, receive: Receive, send: Send) -> None:
        limits = LineLimits(
            line_bytes=self.settings.body_bytes,
            bytes=self.settings.batch_bytes,
            lines=self.settings.batch_lines,
            idle=self.settings.timeout,
        )
        lines = Lines(receive, limits)
        reading = asyncio.ensure_future(lines.read())
        working = asyncio.ensure_future(self._answer(lines, send))
        try:
            await asyncio.wait({reading, working}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                await reading  # the client has hung up
            await working
        finally:
            reading.cancel()
            working.cancel()
            await asyncio.gather(reading, working, return_exceptions=True)

    async def _answer(self, lines: Lines, send: Send) -> None:
        number, last = 0, None
        async with asyncio.TaskGroup() as group:
            try:
                async for line in lines:
                    number = line.number
                    if self.turn and number > 1:
                        await self.turn()
                    await self.window.acquire()
                    group.create_task(self._one(line, send))
            except Refused as exc:
                last = _failed(None, number + 1, exc)
        await self._write(send, last, more=False)

    async def _one(self, line: Line, send: Send) -> None:
        try:
            await self._write(send, await self._judged(line))
        finally:
            self.window.release()

    async def _judged(self, line: Line) -> BatchResult:
        name: str | int | None = None
        try:
            if line.text is None:
                said = f"a line has at most {self.settings.body_bytes} bytes"
                raise Refused(413, "line_too_long", said)
            raw = _parsed(line.text)
            name = _id(raw)
            if name is not None and (type(name), name) in self.seen:
                raise Refused(422, "duplicate_id", "an earlier line has this id", param="id")
            if name is not None:
                self.seen.add((type(name), name))
            try:
                request = _LINE.validate_python(raw)
            except ValidationError as exc:
                raise not_understood(exc.errors(include_url=False, include_input=False)) from None
            return BatchResult(id=name, result=await self.service.judge(request, wait=True))
        except Exception as exc:
            return _failed(name, line.number, refusal(exc))

    async def _write(self, send: Send, result: BatchResult | None, *, more: bool = True) -> None:
        async with self.writing:
            if not self.begun:
                self.begun = True
                await send(head(NDJSON))
            body = result.json_line() if result else b""
            await send({"type": "http.response.body", "body": body, "more_body": more})


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise invalid_json() from None


def _id(raw: Any) -> str | int | None:
    """The id of a line, as far as it is one: also a line that is wrong is answered by its id."""
    found = raw.get("id") if isinstance(raw, dict) else None
    if isinstance(found, str):
        return found if 0 < len(found) <= ID_CHARACTERS and _is_text(found) else None
    if isinstance(found, int) and not isinstance(found, bool):
        return found if abs(found) <= LARGEST_ID else None
    return None


def _is_text(text: str) -> bool:
    """Not a text with half a character (a lone surrogate), which no answer could repeat."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _failed(name: str | int | None, number: int, exc: Refused) -> BatchResult:
    return BatchResult(id=name, line=number, error=LineError(code=exc.code, message=exc.message))
