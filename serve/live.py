"""Answers that end with their client: one that hangs up frees the engine, however the server says so.

Servers tell an app of a hang-up by `http.disconnect`, which a plain handler never reads, or by cancelling the call, as
Ray Serve does. Here both cancel the work, and nothing is left running.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import Response
from fastapi.sse import format_sse_event
from starlette.types import Message, Receive, Scope, Send

from serve.errors import ClientGone, refusal, response_of, unexpected
from serve.refused import Refused
from serve.schemas import JudgeRequest
from serve.service import JudgeService

T = TypeVar("T")
PING = 15.0  # seconds without an event until a comment shows proxies that the stream is alive


async def gone(receive: Receive) -> None:
    """Return once the client has hung up. Nothing else may read the request meanwhile."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The work's result; it is cancelled when the client hangs up or the caller is cancelled.

    Raises:
        ClientGone: the client has hung up.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientGone
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def judged(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """As `while_connected`, for a handler whose body has been read."""
    return await while_connected(request.receive, work)


class Live(Response):
    """A response that is written while its work is done.

    Args:
        work: gets what an ASGI app gets to read and to write; starts the response itself.
    """

    def __init__(self, work: Callable[[Receive, Send], Awaitable[None]]) -> None:
        super().__init__()
        self.work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.work(receive, send)
        except* (ClientGone, OSError):  # OSError: some servers say so when written to
            pass
        except* Exception as several:  # the response has begun: it ends without its end, and the client knows
            unexpected(several.exceptions[0])


def head(media_type: str) -> Message:
    """The start of a response that is not to be kept or collected on its way."""
    headers = {"content-type": media_type, "cache-control": "no-store", "x-accel-buffering": "no"}
    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": 200, "headers": named}


class Events(Live):
    """Server-sent events of a judgment: `critique` {criterion, order, text}, then `result` or `error`.

    What fails before the first event is an ordinary error with its status.
    """

    def __init__(self, service: JudgeService, request: JudgeRequest) -> None:
        super().__init__(self._stream)
        self.service, self.request = service, request
        self.events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    async def _stream(self, receive: Receive, send: Send) -> None:
        await while_connected(receive, self._judge_and_send(send))

    async def _judge_and_send(self, send: Send) -> None:
        judging = asyncio.ensure_future(self._judge())
        try:
            await self._send(send)
        finally:
            judging.cancel()
            await asyncio.gather(judging, return_exceptions=True)

    async def _judge(self) -> None:
        try:
            found = await self.service.judge(self.request, self._heard)
            self.events.put_nowait(("result", found.model_dump()))
        except Exception as exc:
            self.events.put_nowait(("error", refusal(exc)))

    def _heard(self, criterion: str | None, order: str, text: str) -> None:
        self.events.put_nowait(("critique", {"criterion": criterion, "order": order, "text": text}))

    async def _send(self, send: Send) -> None:
        name, said = await self.events.get()
        if isinstance(said, Refused):
            await _whole(response_of(said), send)
            return
        await send(head("text/event-stream; charset=utf-8"))
        while True:
            if isinstance(said, Refused):
                said = said.said()
            # All ASCII: the characters that end a line in Unicode would end an event's line.
            event = format_sse_event(event=name, data_str=json.dumps(said))
            last = name != "critique"
            await send({"type": "http.response.body", "body": event, "more_body": not last})
            if last:
                return
            name, said = await self._next(send)

    async def _next(self, send: Send) -> tuple[str, Any]:
        while True:
            try:
                return await asyncio.wait_for(self.events.get(), PING)
            except TimeoutError:
                await send({"type": "http.response.body", "body": b": waiting\n\n", "more_body": True})


async def _whole(response: Response, send: Send) -> None:
    start = {"type": "http.response.start", "status": response.status_code, "headers": response.raw_headers}
    await send(start)
    await send({"type": "http.response.body", "body": response.body})
