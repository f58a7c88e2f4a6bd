"""One request and its answer between the server and the app: bodies with a limit, and a client who may leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from serve.access.errors import failed, too_large
from serve.access.headers import Headers, secured
from serve.access.paths import Policy
from serve.refused import Refused

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

IDLE = 30.0  # seconds that a client may take for the next piece of a body
GRACE = 1.0  # seconds that the app has to stop after the client has left
GONE: Message = {"type": "http.disconnect"}


class ClientGone(OSError):
    """The client has left; what the app sends now reaches nobody. An OSError, as ASGI wants it of `send`."""


class Broken(Exception):
    """The app failed in the middle of an answer: the server can only close the connection."""


async def _piece(receive: Receive) -> Message:
    """The next piece of a body, within `IDLE` seconds."""
    try:
        async with asyncio.timeout(IDLE):
            message = await receive()
    except TimeoutError:
        raise Refused(
            408, "body_timeout", "the body did not come", why="timeout", headers={"connection": "close"}
        ) from None
    if message["type"] == "http.disconnect":
        raise ClientGone
    return message


async def read(receive: Receive, most: int) -> bytes:
    """The whole body.

    Raises:
        Refused: 413, it has more than `most` bytes, or 408, it stopped coming.
        ClientGone: before its end.
    """
    pieces, size, more = [], 0, True
    while more:
        message = await _piece(receive)
        piece = message.get("body", b"")
        size += len(piece)
        if size > most:
            raise too_large(most)
        pieces.append(piece)
        more = message.get("more_body", False)
    return b"".join(pieces)


class Answer:
    """What the app sends: security headers are added, an answer 500 loses its text, bytes are counted."""

    def __init__(self, send: Send, policy: Policy, number: str | None, draining: Callable[[], bool]) -> None:
        self._send, self._policy, self._number, self._draining = send, policy, number, draining
        self.status, self.bytes = 0, 0
        self.finished = False
        self.gone = False
        self.held: Refused | None = None  # goes out in place of what the app says
        self._replaced = False
        self.at_end: Callable[[], None] = lambda: None

    async def __call__(self, message: Message) -> None:
        """Pass a message of the app on."""
        if self.gone:
            raise ClientGone
        if self._replaced or (self.held is not None and not self.status):
            return
        if message["type"] == "http.response.start":
            if message["status"] == 500:
                # Whatever an error handler of the app wrote into it stays here.
                self._replaced = True
                await self.refuse(failed())
                return
            await self._start(message["status"], message.get("headers", []))
        elif message["type"] == "http.response.body":
            await self._body(message)
        else:
            await self._send(message)

    async def refuse(self, refusal: Refused) -> None:
        """Answer with an error."""
        body = refusal.body()
        headers: Headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(name.encode(), value.encode()) for name, value in refusal.headers.items()]
        await self._start(refusal.status, headers)
        await self._body({"type": "http.response.body", "body": body})

    async def cut(self, refusal: Refused) -> None:
        """End an event stream with an error, as OpenAI's clients expect it there."""
        await self._body({"type": "http.response.body", "body": b"data: %b\n\n" % refusal.body()})

    async def _start(self, status: int, headers: Headers) -> None:
        self.status = status
        closing = self._draining() and not any(name.lower() == b"connection" for name, _ in headers)
        out = secured(headers, self._policy, self._number, closing)
        await self._send({"type": "http.response.start", "status": status, "headers": out})

    async def _body(self, message: Message) -> None:
        self.bytes += len(message.get("body", b""))
        last = not message.get("more_body", False)
        if last:
            self.finished = True
        try:
            await self._send(message)
        finally:
            if last:
                self.at_end()


class Exchange:
    """One call of the app, which is told when its client leaves.

    A client leaves in one of two ways: the server says `http.disconnect`, or (Ray Serve) it cancels the call. vLLM's
    routes heed only the first, and would leave the engine at work after the second. The app is told in the first way in
    both cases; if it does not stop within `GRACE` seconds, it is cancelled.

    Args:
        receive: of the server.
        answer: takes what the app sends.
        body: the whole, if it was read; None: it is passed on in pieces.
        most: bytes of a body in pieces.
    """

    def __init__(self, receive: Receive, answer: Answer, body: bytes | None, most: int) -> None:
        loop = asyncio.get_running_loop()
        self._receive, self._answer, self._body, self._most = receive, answer, body, most
        self._left: asyncio.Future[None] = loop.create_future()
        self._whole: asyncio.Future[None] = loop.create_future()
        self._taken = 0
        if body is not None:
            self._whole.set_result(None)

    async def run(self, app: App, scope: MutableMapping[str, Any]) -> None:
        """Call the app.

        Raises:
            Refused: the body in pieces was too long, or stopped coming, before the app began to answer.
            ClientGone: the client has left.
            Exception: what the app raised.
        """
        answer, left = self._answer, self._left
        work = asyncio.ensure_future(app(scope, self._hear, answer))
        work.add_done_callback(_looked_at)
        watching = asyncio.ensure_future(self._watch())
        try:
            await asyncio.wait({work, watching, left}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                if answer.finished:  # what the app does after its answer, such as a background task
                    _set(left)
                    await asyncio.wait({work})
                else:
                    answer.gone = answer.held is None
                    await _stop(work, left)
        except asyncio.CancelledError:
            answer.gone = not answer.finished
            await _stop(work, left)
            raise
        finally:
            watching.cancel()
            _set(left)
        if answer.held is not None and not answer.status:
            raise answer.held
        if answer.gone:
            raise ClientGone
        try:
            work.result()
        except asyncio.CancelledError:
            raise Broken("cancelled") from None  # by itself: nobody cancelled this call

    async def _hear(self) -> Message:
        """`receive` of the app."""
        if self._body is not None:
            message: Message = {"type": "http.request", "body": self._body, "more_body": False}
            self._body = None
            return message
        if not self._whole.done() and not self._left.done():
            try:
                if (piece := await self._next()) is not None:
                    return piece
            except ClientGone:
                self._answer.gone = True
            except Refused as refusal:
                self._answer.held = refusal
            _set(self._left)
        await asyncio.shield(self._left)
        return GONE

    async def _next(self) -> Message | None:
        """The next piece of the body; None: the client left meanwhile."""
        coming = asyncio.ensure_future(_piece(self._receive))
        either: set[asyncio.Future[Any]] = {coming, self._left}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            coming.cancel()
        if not coming.done():
            return None
        piece = coming.result()
        self._taken += len(piece.get("body", b""))
        if self._taken > self._most:
            raise too_large(self._most)
        if not piece.get("more_body", False):
            self._whole.set_result(None)
        return piece

    async def _watch(self) -> None:
        """Ends when the server says that the client has left."""
        await asyncio.shield(self._whole)
        with suppress(Exception):  # a server that cannot say more has no client either
            while (await self._receive())["type"] != "http.disconnect":
                pass


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _stop(work: asyncio.Future[None], left: asyncio.Future[None]) -> None:
    """Let the app end by itself, then end it. Its errors are of no interest to a client who has left."""
    _set(left)
    with suppress(asyncio.CancelledError):
        await asyncio.wait({work}, timeout=GRACE)
    if not work.done():
        work.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({work}, timeout=GRACE)


def _looked_at(work: asyncio.Future[None]) -> None:
    """Or asyncio would log it, with what it says of the request."""
    if not work.cancelled():
        work.exception()
