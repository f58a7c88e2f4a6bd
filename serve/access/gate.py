"""The one way in: every request to the service passes here first.

In this order: id of the request, headers, path, drain, key, scope, concurrency and rate, length, method, body, for
chat completions its fields and its place in the queue, then the app. Everything is denied that is not on a list
(`paths`, `headers`, `chat`).

`vllm serve --middleware serve.access.gate.Gate` makes it of the app alone; its settings are then those of the variable
OPENSELENE_SERVICE (`serve.settings.load_settings`). The app gives it what it cannot know by itself: as
`app.state.control_tokens` the texts of the model's control tokens, once the engine is up, as `app.state.watch`
counters, and as `app.state.room` the places that chats share with judgments. It gives the app
`app.state.gate` at the start, with `gate.drain`, and `scope["caller"]` in every request.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Protocol

from serve.access import drain, headers, paths, peers
from serve.access.chat import ChatCheck
from serve.access.drain import Drain
from serve.access.errors import failed, no_key, too_large
from serve.access.exchange import Answer, App, Broken, ClientGone, Exchange, Receive, Send, read
from serve.access.keys import Keys
from serve.access.limits import Caller, Limits
from serve.access.logs import AccessLog
from serve.access.paths import Route
from serve.refused import Refused
from serve.room import Room
from serve.settings import ServiceSettings, load_settings
from serve.watch import Watch

LEFT = 499  # in logs and metrics: the client left before the answer's end
_OTHER = Route("other", "")
_log = logging.getLogger("openselene.gate")


class Counts(Protocol):
    """What the gate tells `serve.watch.Watch`."""

    def request(self, route: str, status: int, seconds: float) -> None:
        """One request is over."""

    def refused(self, why: str) -> None:
        """One request was refused."""


class Gate:
    """ASGI middleware.

    Args:
        app: what is behind it.
        settings: None: the file that OPENSELENE_SERVICE names, or the defaults.
        watch: counters; None: those of `app.state.watch`.
        control_tokens: gives the texts of the model's control tokens; None: `app.state.control_tokens` has them.
        signals: whether SIGTERM drains first; only where the server runs in the main thread.

    Raises:
        UserError: the settings or the file of keys cannot be read.
    """

    def __init__(
        self,
        app: App,
        settings: ServiceSettings | None = None,
        watch: Counts | None = None,
        *,
        control_tokens: Callable[[], Collection[str]] | None = None,
        signals: bool = True,
    ) -> None:
        self.app = app
        self.settings = settings or load_settings()
        self.watch = watch
        self.control_tokens = control_tokens
        self.drain = Drain()
        self._signals = signals
        self._keys = Keys(self.settings.keys) if self.settings.keys else None
        self._limits = Limits(self.settings.rate_storage)
        self._chat = ChatCheck(self.settings.chat_tokens, self.settings.field_characters)
        self._access = AccessLog()
        self._room = Room(self.settings.queue, Watch())  # of an app that brings none
        if self._keys is None:
            _log.warning("no keys configured: this machine alone is answered (openselene keys add FILE --name NAME)")

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """One ASGI call."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            if (state := _state(scope)) is not None:
                state.gate = self
            if self._signals:
                drain.install(self.drain, self.settings.drain)
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        number, theirs = headers.request_id(scope["headers"])
        route = paths.find(scope) or _OTHER
        # Ray Serve's proxy writes the id that it was given, or made, into every answer: a second one would be a list.
        shown = None if theirs and _behind_serve() else number
        answer = Answer(send, route.policy, shown, lambda: self.drain.draining)
        request = _Request(scope, receive, answer, route, number)
        try:
            await self._answer(request)
        except Refused as refusal:
            if (watch := self._watch(scope)) is not None and refusal.why:
                watch.refused(refusal.why)
            await answer.refuse(refusal)
        except ClientGone:
            pass
        except Exception as exc:
            # The class alone: the text of an exception may hold a prompt.
            _log.error("request %s: %s", number, type(exc).__name__)
            if answer.status:
                raise Broken(number) from None
            await answer.refuse(failed())
        finally:
            request.release()
            self._record(request, time.perf_counter() - began)

    async def _answer(self, request: _Request) -> None:
        route, found = request.route, request.scope["headers"]
        headers.check(found)
        if route is _OTHER:
            raise Refused(404, "not_found", "there is no such path here")
        if self.drain.draining and route.name != "/healthz":
            raise Refused(
                503,
                "draining",
                "this server is about to stop",
                why="draining",
                retry_after=1,
                headers={"connection": "close"},
            )
        if not route.probe:
            self.drain.enter()
            request.at_release(self.drain.leave)
        caller = await self._caller(request)
        most = self.settings.batch_bytes if route.batch else self.settings.body_bytes
        length = _length(found)
        if length > most:
            raise too_large(most)
        if request.scope["method"] != route.method:
            raise Refused(405, "method_not_allowed", f"this path takes {route.method}", headers={"allow": route.method})
        body, choices = None, 0
        if not route.batch:
            body = await read(request.receive, most)
            if route.name == paths.CHAT:
                body, choices = self._chat(body, self._tokens(request.scope))
        inner = dict(request.scope)
        inner["headers"] = headers.passed(found, request.number, None if body is None else len(body))
        inner["caller"] = caller
        exchange = Exchange(request.receive, request.answer, body, most)
        if choices:
            await self._in_turn(request, choices, lambda: exchange.run(self.app, inner))
        else:
            await exchange.run(self.app, inner)

    async def _in_turn(self, request: _Request, choices: int, chat: Callable[[], Awaitable[None]]) -> None:
        """A chat, with its places among what the engine computes and within the time of a request.

        vLLM's own route knows neither; the judge's routes see to both themselves (`serve.service`).

        Raises:
            Refused: 503, there is no room, or 504.
        """
        room = getattr(_state(request.scope), "room", None) or self._room
        seconds = self.settings.timeout
        late = Refused(504, "timeout", f"not done within {seconds:g} seconds", why="timeout")
        try:
            async with room.take(choices), asyncio.timeout(seconds) as time_left:
                await chat()
        except TimeoutError:
            if not time_left.expired():
                raise
            if not request.answer.status:
                raise late from None
            if (watch := self._watch(request.scope)) is not None:
                watch.refused(late.why)
            if not request.answer.finished:
                await request.answer.cut(late)

    async def _caller(self, request: _Request) -> Caller:
        """Who asks, with a place among the requests under way.

        Raises:
            Refused: 401, 403 or 429.
        """
        route = request.route
        if self._keys is None:
            if not route.probe:
                peers.check(request.scope.get("client"), request.scope["headers"])
            return Caller("", frozenset({"judge", "chat", "metrics", "admin"}))
        if not route.scopes:
            return Caller("", frozenset())
        await self._keys.refresh()
        entry = self._keys.find(_bearer(request.scope["headers"]))
        if entry is None:
            raise no_key()
        request.key = entry.id
        scopes = frozenset(entry.scopes)
        if "admin" not in scopes and not scopes & route.scopes:
            raise Refused(
                403,
                "insufficient_scope",
                f"this key lacks the scope {' or '.join(sorted(route.scopes))}",
                why="scope",
            )
        own, common = entry.limits, self.settings.limits
        concurrent = (own and own.concurrent) or common.concurrent
        if not self._limits.enter(entry.id, concurrent):
            raise _too_many("concurrency", f"this key has {concurrent} requests under way", 1)
        request.at_release(lambda: self._limits.leave(entry.id))
        per_minute = (own and own.requests_per_minute) or common.requests_per_minute
        if wait := await self._limits.hit(entry.id, per_minute):
            raise _too_many("rate", f"this key may make {per_minute} requests a minute", wait)
        return Caller(entry.id, scopes, self._limits, per_minute)

    def _tokens(self, scope: MutableMapping[str, Any]) -> Collection[str]:
        """The model's control tokens.

        Raises:
            Refused: 503, they are not known yet: a chat that cannot be checked is not passed on.
        """
        tokens = self.control_tokens() if self.control_tokens else getattr(_state(scope), "control_tokens", None)
        if tokens is None:
            raise Refused(503, "not_ready", "the model is not ready", retry_after=5)
        return tokens

    def _watch(self, scope: MutableMapping[str, Any]) -> Counts | None:
        return self.watch or getattr(_state(scope), "watch", None)

    def _record(self, request: _Request, seconds: float) -> None:
        answer = request.answer
        status = answer.status if answer.finished else LEFT
        if (watch := self._watch(request.scope)) is not None:
            watch.request(request.route.name, status, seconds)
        self._access.write(
            id=request.number,
            key=request.key,
            route=request.route.name,
            status=status,
            seconds=round(seconds, 4),
            bytes=answer.bytes,
        )


class _Request:
    """One request on its way through the gate, and what it holds until its answer is out."""

    def __init__(
        self, scope: MutableMapping[str, Any], receive: Receive, answer: Answer, route: Route, number: str
    ) -> None:
        self.scope, self.receive, self.answer, self.route, self.number = scope, receive, answer, route, number
        self.key = ""
        self._held: list[Callable[[], None]] = []
        answer.at_end = self.release

    def at_release(self, give_back: Callable[[], None]) -> None:
        """To be done once the last byte is out, or the client gone."""
        self._held.append(give_back)

    def release(self) -> None:
        """Give everything back; a second call does nothing."""
        while self._held:
            self._held.pop()()


def _bearer(found: headers.Headers) -> bytes:
    """The presented key; empty if there is none, or two."""
    try:
        value = headers.the_only(found, b"authorization") or b""
    except ValueError:
        return b""
    scheme, _, key = value.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else b""


def _length(found: headers.Headers) -> int:
    """The length that a body claims, 0 if it claims none.

    Raises:
        Refused: 400, it is no number, or there are two.
    """
    try:
        value = headers.the_only(found, b"content-length")
        if value is None:
            return 0
        if not value.isdigit() or len(value) > 18:
            raise ValueError
        return int(value)
    except ValueError:
        raise Refused(
            400, "invalid_length", "Content-Length is not one number", headers={"connection": "close"}
        ) from None


def _too_many(why: str, message: str, wait: float) -> Refused:
    return Refused(429, f"{why}_limit_exceeded", message, why=why, retry_after=wait)


def _state(scope: MutableMapping[str, Any]) -> Any:
    return getattr(scope.get("app"), "state", None)


def _behind_serve() -> bool:
    """Whether this process is a replica of Ray Serve."""
    serve = sys.modules.get("ray.serve")
    if serve is None:
        return False
    try:
        serve.get_replica_context()
    except Exception:
        return False
    return True
