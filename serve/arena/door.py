"""In front of the app: bodies with a limit, the visitor's address as a keyed hash, and so many requests a minute."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from serve.access.exchange import App, ClientGone, Message, Receive, Send, read
from serve.access.limits import Limits
from serve.arena.secret import Secret
from serve.errors import response_of
from serve.refused import Refused

BYTES_A_CHARACTER = 6  # of JSON, where everything is escaped


class Door:
    """ASGI middleware; the app finds the visitor in `scope["visitor"]`.

    Args:
        app: behind it.
        secret: the arena's key.
        limits: the counts.
        per_minute: requests of one visitor.
        body_bytes: of one request.
        proxies: as in the config.
    """

    def __init__(
        self, app: App, *, secret: Secret, limits: Limits, per_minute: int, body_bytes: int, proxies: int
    ) -> None:
        self.app, self.secret, self.limits = app, secret, limits
        self.per_minute, self.body_bytes, self.proxies = per_minute, body_bytes, proxies

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["visitor"] = self.secret.visitor(address(scope, self.proxies))
        try:
            if wait := await self.limits.hit(f"page:{scope['visitor']}", self.per_minute):
                raise too_many("too many requests", wait)
            body = await read(receive, self.body_bytes)
        except ClientGone:
            return
        except Refused as refused:
            await response_of(refused)(scope, receive, send)
            return
        await self.app(scope, _once(body, receive), send)


def address(scope: MutableMapping[str, Any], proxies: int) -> str:
    """The visitor's address: of the connection, or what the outermost of our own proxies has seen."""
    if proxies:
        joined = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        seen = [one.strip() for one in joined.decode("latin-1").split(",") if one.strip()]
        if len(seen) >= proxies:
            return seen[-proxies]
    return str(scope["client"][0]) if scope.get("client") else ""


def too_many(message: str, wait: float) -> Refused:
    """The error for a visitor who asks too often."""
    return Refused(429, "rate_limit_exceeded", message, retry_after=wait)


def _once(body: bytes, receive: Receive) -> Receive:
    """The body in one piece, then what the server says: that the visitor has left."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message
