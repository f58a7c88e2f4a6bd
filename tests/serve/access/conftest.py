"""A tiny app behind the gate, and raw ASGI calls of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.core.yaml_model import parse_model
from serve.access.gate import Gate
from serve.access.keys import changing, make, until
from serve.access.logs import NAME, set_up
from serve.settings import ServiceSettings

JUDGE, CHAT, BATCH = "/v1/judge/pairwise", "/v1/chat/completions", "/v1/judge/batch"
Make = Callable[..., Any]


class Counted:
    """Counters that remember."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, int]] = []
        self.why: list[str] = []

    def request(self, route: str, status: int, seconds: float) -> None:
        self.requests.append((route, status))

    def refused(self, why: str) -> None:
        self.why.append(why)


@dataclass
class Result:
    """What came back of one call."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    finished: bool = False

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name.encode()]
        assert len(found) <= 1, f"{name} twice"
        return found[0].decode() if found else None

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["error"]["code"])


class Tiny:
    """Stub app (no engine): reads the body and answers with it. `act` replaces what it does."""

    def __init__(self) -> None:
        self.state = SimpleNamespace(control_tokens=["<|im_start|>", "<|im_end|>"])
        self.seen: list[dict[str, Any]] = []
        self.act: Callable[[Any, Any, Any], Awaitable[None]] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope)
        if self.act is not None:
            await self.act(scope, receive, send)
            return
        body = await whole(receive)
        await reply(send, body)


async def whole(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RuntimeError("client gone")
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def reply(send: Any, body: bytes, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers or []})
    await send({"type": "http.response.body", "body": body})


class Client:
    """Calls the gate as a server would."""

    def __init__(self, gate: Gate, app: Tiny) -> None:
        self.gate, self.app = gate, app
        self.hang_up = asyncio.Event()

    async def __call__(
        self,
        path: str = JUDGE,
        method: str = "POST",
        *,
        key: str | None = None,
        body: bytes = b"{}",
        pieces: list[bytes] | None = None,
        headers: list[tuple[bytes, bytes]] | None = None,
        client: tuple[str, int] | None = ("127.0.0.1", 5000),
        root: str = "",
        result: Result | None = None,
    ) -> Result:
        result = result if result is not None else Result()
        sent = [(b"host", b"127.0.0.1:8000"), *(headers or [])]
        if pieces is None:
            sent.append((b"content-length", str(len(body)).encode()))
        if key is not None:
            sent.append((b"authorization", f"Bearer {key}".encode()))
        waiting = list(pieces) if pieces is not None else [body]

        async def receive() -> dict[str, Any]:
            if waiting:
                piece = waiting.pop(0)
                return {"type": "http.request", "body": piece, "more_body": bool(waiting)}
            await self.hang_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                assert result.status == 0, "an answer begins once"
                result.status, result.headers = message["status"], list(message["headers"])
            else:
                assert not result.finished, "nothing follows the last byte"
                result.body += message.get("body", b"")
                result.finished = not message.get("more_body", False)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "root_path": root,
            "headers": sent,
            "client": client,
            "app": self.app,
        }
        await self.gate(scope, receive, send)
        return result


@pytest.fixture(autouse=True)
def seen_by_caplog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service's log passes nothing on to the root logger, where pytest listens."""
    set_up()
    monkeypatch.setattr(logging.getLogger(NAME), "propagate", True)


@pytest.fixture
def app() -> Tiny:
    return Tiny()


@pytest.fixture
def make_key(tmp_path: Path) -> Callable[..., str]:
    """Adds a key to `keys.yaml`, and gives it."""

    def add(*scopes: str, expires: str | None = None, limits: Any = None) -> str:
        key, entry = make(
            "test",
            scopes or ("judge", "chat"),
            expires=until(expires) if expires else None,
            limits=limits,  # type: ignore[arg-type]
        )
        with changing(tmp_path / "keys.yaml") as entries:
            entries.append(entry)
        return key

    return add


@pytest.fixture
def client(app: Tiny, tmp_path: Path) -> Callable[..., Client]:
    """Makes a client of a gate; with keys if `keys.yaml` is there."""

    def connect(watch: Any = None, **settings: Any) -> Client:
        path = tmp_path / "keys.yaml"
        raw = {**({"keys": str(path)} if path.exists() else {}), **settings}
        gate = Gate(app, parse_model(ServiceSettings, raw, "test"), watch, signals=False)
        return Client(gate, app)

    return connect
