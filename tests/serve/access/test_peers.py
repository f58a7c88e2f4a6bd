"""Without keys: programs of this machine, and nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from serve.access.gate import Gate
from serve.settings import ServiceSettings

JUDGE, CHAT, BATCH = "/v1/judge/pairwise", "/v1/chat/completions", "/v1/judge/batch"
Make = Callable[..., Any]


@pytest.mark.parametrize(
    ("peer", "headers", "served"),
    [
        ("127.0.0.1", [], True),
        ("127.8.9.1", [], True),
        ("::1", [], True),
        ("::ffff:127.0.0.1", [], True),
        ("10.0.0.1", [], False),
        ("::ffff:10.0.0.1", [], False),
        ("172.17.0.1", [], False),
        ("localhost", [], False),
        ("", [], False),
        (None, [], False),
        ("10.0.0.1", [(b"x-forwarded-for", b"127.0.0.1")], False),
        ("127.0.0.1", [(b"x-forwarded-for", b"127.0.0.1")], False),
        ("127.0.0.1", [(b"forwarded", b"for=127.0.0.1")], False),
        ("127.0.0.1", [(b"via", b"1.1 proxy")], False),
        ("127.0.0.1", [(b"host", b"evil.example")], False),  # a second host
        ("127.0.0.1", [(b"origin", b"http://127.0.0.1:8000")], True),
        ("127.0.0.1", [(b"origin", b"http://127.0.0.1:9000")], False),
        ("127.0.0.1", [(b"origin", b"https://evil.example")], False),
        ("127.0.0.1", [(b"origin", b"null")], False),
        ("127.0.0.1", [(b"origin", b"http://[::1")], False),
    ],
)
def test_without_keys_this_machine_alone_is_answered(
    client: Make, app: Any, peer: str | None, headers: Any, served: bool
) -> None:
    ask = client()
    got = asyncio.run(ask(headers=headers, client=None if peer is None else (peer, 1)))
    assert got.status == (200 if served else 403) and bool(app.seen) is served
    if not served:
        assert got.code == "no_keys_configured" and b"openselene keys add" in got.body
    assert asyncio.run(ask("/healthz", "GET", client=("10.0.0.1", 1))).status == 200  # a probe of the cluster


def test_a_page_that_rebinds_its_name_is_refused(app: Any) -> None:
    async def send_as(host: str) -> int:
        transport = httpx.ASGITransport(Gate(app, ServiceSettings(), signals=False))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as http:
            return (await http.post(JUDGE, json={})).status_code

    assert asyncio.run(send_as("localhost:8000")) == 200
    assert asyncio.run(send_as("evil.example")) == 403


def test_behind_haproxy_nobody_is_served_without_a_key(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    assert asyncio.run(client()()).status == 403
