"""The gate: each refusal provoked, and what an answer carries."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from serve.access import gate as module
from serve.access import paths
from serve.access.gate import Gate
from serve.access.keys import OwnLimits
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


def test_a_key_opens_what_its_scopes_say(client: Make, make_key: Make) -> None:
    judge, chat, metrics, admin = make_key("judge"), make_key("chat"), make_key("metrics"), make_key("admin")
    ask = client()

    async def all_of() -> None:
        chat_body = b'{"messages": [{"role": "user", "content": "hi"}]}'
        for key, opened in ((judge, {JUDGE, "/v1/models"}), (chat, {CHAT, "/v1/models"}), (metrics, {"/metrics"})):
            for path in (JUDGE, CHAT, "/v1/models", "/metrics"):
                body = chat_body if path == CHAT else b"{}"
                got = await ask(path, paths.ROUTES[path].method, key=key, body=body)
                assert got.status == (200 if path in opened else 403), (path, got.body)
        assert (await ask("/metrics", "GET", key=admin)).status == 200
        assert (await ask(JUDGE, key=judge)).body == b"{}"

    asyncio.run(all_of())


def test_without_a_valid_key_nothing_but_401(client: Make, make_key: Make, app: Any) -> None:
    key, ended = make_key(), make_key(expires="0m")
    ask = client(watch := Counted())
    wrong = [
        [],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer " + ended.encode())],
        [(b"authorization", b"Bearer " + key.encode() + b"x")],
        [(b"authorization", key.encode())],
        [(b"authorization", b"Basic " + key.encode())],
        [(b"authorization", b"Bearer \xff\xfe\x00")],
        [(b"authorization", "Bearer sel_ключ_секрет".encode())],
        [(b"authorization", b"Bearer " + key.encode()), (b"authorization", b"Bearer " + key.encode())],
        [(b"x-api-key", key.encode())],
    ]

    async def all_of() -> None:
        bodies = set()
        for headers in wrong:
            got = await ask(JUDGE, headers=headers)
            assert got.status == 401 and got.header("www-authenticate") == 'Bearer realm="openselene"'
            bodies.add(got.body)
        assert len(bodies) == 1, "a guess learns nothing"

    asyncio.run(all_of())
    assert app.seen == [] and watch.why == ["no_key"] * len(wrong)


_PATHS = [name for name, route in paths.ROUTES.items() if route.scopes]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(_PATHS),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"]),
    headers=st.lists(
        st.tuples(st.sampled_from([b"authorization", b"x-forwarded-for", b"cookie", b"x-a"]), st.binary(max_size=60)),
        max_size=4,
    ),
    body=st.binary(max_size=100),
)
def test_no_closed_path_answers_anything_but_401_to_who_has_no_key(
    client: Make,
    make_key: Make,
    app: Any,
    tmp_path: Path,
    path: str,
    method: str,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> None:
    if not (tmp_path / "keys.yaml").exists():
        make_key()
    got = asyncio.run(client()(path, method, headers=headers, body=body))
    assert got.status == 401 and app.seen == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/completions",
        "/tokenize",
        "/invocations",
        "/v1/judge",
        "/v1/judge/",
        "/v1/judge/pairwise/",
        "/v1//judge/pairwise",
        "//v1/judge/pairwise",
        "/V1/judge/pairwise",
        "/page/../metrics",
        "/page/..%2fmetrics",
        "/page/.env",
        "/page//x",
        "/page/",
        "/docs/",
        "",
        "/\x00",
        "/healthz\n",
        "*",
        "/load_lora_adapter",
        "/v1/load_lora_adapter",
        "/sleep",
        "/ping",
    ],
)
def test_what_is_not_listed_is_not_found(client: Make, make_key: Make, app: Any, path: str) -> None:
    key = make_key("admin")
    got = asyncio.run(client()(path, key=key))
    assert got.status == 404 and got.code == "not_found" and app.seen == []


def test_open_paths_need_no_key(client: Make, make_key: Make) -> None:
    make_key()
    ask = client()
    for path in ("/", "/page/style.css", "/page/a/b.js", "/healthz", "/readyz", "/docs", "/openapi.json"):
        assert asyncio.run(ask(path, "GET")).status == 200


def test_a_prefix_of_the_proxy_is_not_part_of_the_path(client: Make) -> None:
    ask = client()
    assert asyncio.run(ask("/judge/healthz", "GET", root="/judge")).status == 200
    assert asyncio.run(ask("/judgehealthz", "GET", root="/judge")).status == 404


def test_the_wrong_method_is_405(client: Make, make_key: Make) -> None:
    key, ask = make_key(), client()
    got = asyncio.run(ask(JUDGE, "GET", key=key))
    assert got.status == 405 and got.header("allow") == "POST"
    assert asyncio.run(ask("/healthz", "POST")).status == 405
    assert asyncio.run(ask(JUDGE, "OPTIONS", key=key, headers=[(b"origin", b"http://a")])).status == 405  # CORS is off


def test_the_key_and_steering_headers_do_not_reach_the_app(client: Make, make_key: Make, app: Any) -> None:
    key = make_key()
    steering = [b"x-request-timeout-seconds", b"serve_multiplexed_model_id", b"serve-multiplexed-model-id"]
    steering += [b"x-session-id", b"x-data-parallel-rank", b"x-priority", b"cookie", b"x-forwarded-for"]
    got = asyncio.run(
        client()(key=key, headers=[(name, b"1") for name in steering] + [(b"content-type", b"application/json")])
    )
    assert got.status == 200
    assert {name for name, _ in app.seen[0]["headers"]} == {
        b"host",
        b"content-type",
        b"content-length",
        b"x-request-id",
    }
    assert app.seen[0]["caller"].key == key[4:14]


def test_who_asks_not_to_be_heard_is_refused(client: Make, make_key: Make) -> None:
    got = asyncio.run(client()(key=make_key(), headers=[(b"x-request-disconnect-disabled", b"?1")]))
    assert got.status == 400 and got.code == "header_not_allowed"


def test_a_megabyte_of_headers_is_refused(client: Make, make_key: Make) -> None:
    got = asyncio.run(client()(key=make_key(), headers=[(b"x-a", b"a" * 1_000_000)]))
    assert got.status == 431


@pytest.mark.parametrize("length", [b"-1", b"1x", b"", b"9" * 30, "٣".encode()])
def test_a_length_that_is_no_number_is_refused(client: Make, make_key: Make, length: bytes) -> None:
    got = asyncio.run(client()(key=make_key(), pieces=[b"{}"], headers=[(b"content-length", length)]))
    assert got.status == 400 and got.code == "invalid_length"


@pytest.mark.parametrize(
    ("given_id", "kept"),
    [(b"abc-1.2_3", True), (b"a" * 64, True), (b"a" * 65, False), (b"a b", False), (b"\xff", False), (b"", False)],
)
def test_every_answer_has_an_id(client: Make, make_key: Make, app: Any, given_id: bytes, kept: bool) -> None:
    key, ask = make_key(), client()
    for path in (JUDGE, "/nowhere"):
        got = asyncio.run(ask(path, key=key, headers=[(b"x-request-id", given_id)]))
        number = got.header("x-request-id")
        assert number and (number == given_id.decode("latin-1")) is kept
    assert dict(app.seen[0]["headers"])[b"x-request-id"] != b"" and app.seen[0]["headers"][-1][0] == b"x-request-id"


def test_ray_serves_proxy_writes_the_id_itself(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_behind_serve", lambda: True)
    assert asyncio.run(client()(headers=[(b"x-request-id", b"abc")])).header("x-request-id") is None


def test_security_headers(client: Make, app: Any) -> None:
    async def act(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"access-control-allow-origin", b"*"), (b"Cache-Control", b"max-age=9"), (b"etag", b"x")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    app.act = act
    ask = client()
    api, page = asyncio.run(ask()), asyncio.run(ask("/", "GET"))
    for got in (api, page):
        assert got.header("x-content-type-options") == "nosniff" and got.header("referrer-policy") == "no-referrer"
        assert "frame-ancestors 'none'" in (got.header("content-security-policy") or "")
        assert got.header("access-control-allow-origin") is None and got.header("etag") == "x"
    assert api.header("cache-control") == "no-store" and "default-src 'self'" in (
        page.header("content-security-policy") or ""
    )
    assert asyncio.run(ask("/nowhere")).header("x-content-type-options") == "nosniff"


# -- without keys ------------------------------------------------------------------------------------------------------


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


# -- limits ------------------------------------------------------------------------------------------------------------


def test_the_rate_of_a_key_is_its_own(client: Make, make_key: Make) -> None:
    key, slow = make_key(), make_key(limits=OwnLimits(requests_per_minute=2))
    ask = client(watch := Counted(), limits={"requests_per_minute": 5})

    async def all_of() -> None:
        assert [(await ask(key=slow)).status for _ in range(4)] == [200, 200, 429, 429]
        assert [(await ask(key=key)).status for _ in range(6)] == [200] * 5 + [429]
        got = await ask(key=key)
        assert got.code == "rate_limit_exceeded" and 50 <= int(got.header("retry-after") or 0) <= 60

    asyncio.run(all_of())
    assert watch.why == ["rate"] * 4


def hold(app: Any) -> tuple[asyncio.Event, asyncio.Event]:
    """Make the app wait in the middle of its answer; returns its start and what lets it go."""
    begun, go = asyncio.Event(), asyncio.Event()

    async def act(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        begun.set()
        try:
            await go.wait()
            await send({"type": "http.response.body", "body": b"b"})
        finally:
            app.ended = True

    app.act, app.ended = act, False
    return begun, go


def test_concurrency_counts_until_the_last_byte(client: Make, make_key: Make, app: Any) -> None:
    key, other = make_key(limits=OwnLimits(concurrent=1)), make_key()
    ask = client()

    async def all_of() -> None:
        begun, go = hold(app)
        first = asyncio.create_task(ask(key=key))
        await begun.wait()
        got = await ask(key=key)
        assert got.status == 429 and got.code == "concurrency_limit_exceeded" and got.header("retry-after") == "1"
        second = asyncio.create_task(ask(key=other))  # another key's place is its own
        await asyncio.sleep(0)
        go.set()
        assert (await first).body == b"ab" and (await second).status == 200
        assert (await ask(key=key)).status == 200
        assert not ask.gate._limits._under_way and ask.gate.drain.in_flight == 0

    asyncio.run(all_of())


@pytest.mark.parametrize("how", ["cancelled", "hung up"])
def test_a_place_is_free_once_its_client_has_left(client: Make, make_key: Make, app: Any, how: str) -> None:
    key, ask = make_key(limits=OwnLimits(concurrent=1)), client(watch := Counted())

    async def all_of() -> None:
        begun, _ = hold(app)
        task = asyncio.create_task(ask(key=key))
        await begun.wait()
        if how == "cancelled":
            task.cancel()
        else:
            ask.hang_up.set()
        await asyncio.wait({task}, timeout=3)
        assert task.done() and task.cancelled() is (how == "cancelled")
        assert app.ended, "one that does not listen is cancelled"
        assert not ask.gate._limits._under_way and ask.gate.drain.in_flight == 0
        app.act = None
        assert (await ask(key=key)).status == 200

    asyncio.run(all_of())
    assert watch.requests == [(JUDGE, 499), (JUDGE, 200)]


@pytest.mark.parametrize("cancel", [True, False])
def test_the_app_hears_of_a_client_who_left_as_http_disconnect(client: Make, app: Any, cancel: bool) -> None:
    """What vLLM's with_cancellation waits for; it comes within milliseconds, long before the app is cancelled."""
    heard: list[str] = []

    async def act(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "http.request"
        ready.set()
        heard.append((await receive())["type"])

    app.act = act
    ready = asyncio.Event()
    ask = client()

    async def all_of() -> float:
        task = asyncio.create_task(ask())
        await ready.wait()
        began = time.perf_counter()
        _ = task.cancel() if cancel else ask.hang_up.set()
        await asyncio.wait({task})
        return time.perf_counter() - began

    assert asyncio.run(all_of()) < 0.5 and heard == ["http.disconnect"]


def test_vllms_own_wrapper_frees_its_handler_when_serve_cancels(app: Any) -> None:
    """The shape of vLLM's `with_cancellation`, on FastAPI: a handler task, and one that waits for http.disconnect."""
    api, ended = FastAPI(), asyncio.Event()

    @api.post(JUDGE)
    async def handler(request: Request) -> dict[str, str]:
        async def listen() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass

        async def work() -> None:
            try:
                started.set()
                await asyncio.sleep(60)
            finally:
                ended.set()

        await request.body()
        tasks = {asyncio.create_task(work()), asyncio.create_task(listen())}
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        return {}

    started = asyncio.Event()
    gate = Gate(api, ServiceSettings(), signals=False)

    async def all_of() -> None:
        transport = httpx.ASGITransport(gate)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            task = asyncio.create_task(http.post(JUDGE, json={}))
            await started.wait()
            task.cancel()
            await asyncio.wait({task})
        await asyncio.wait_for(ended.wait(), 0.5)

    asyncio.run(all_of())


def test_what_follows_an_answer_is_not_cut_off(client: Make, app: Any) -> None:
    done: list[int] = []

    async def act(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a"})
        ask.hang_up.set()  # uvicorn says http.disconnect once the answer is out
        await asyncio.sleep(0.05)
        done.append(1)

    app.act = act
    ask = client()
    assert asyncio.run(ask()).finished and done == [1]


# -- bodies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [JUDGE, BATCH])
def test_a_body_that_says_it_is_too_long_is_not_read(client: Make, make_key: Make, app: Any, path: str) -> None:
    got = asyncio.run(client(body_bytes=1000, batch_bytes=1000)(path, key=make_key(), body=b"a" * 1001))
    assert got.status == 413 and got.header("connection") == "close" and app.seen == []


@pytest.mark.parametrize("path", [JUDGE, BATCH])
def test_a_body_that_grows_too_long_is_cut_off(client: Make, make_key: Make, path: str) -> None:
    key = make_key()
    ask = client(watch := Counted(), body_bytes=1000, batch_bytes=1000)
    assert asyncio.run(ask(path, key=key, pieces=[b"a" * 500, b"a" * 500])).status == 200
    got = asyncio.run(ask(path, key=key, pieces=[b"a" * 500] * 100))
    assert got.status == 413 and got.code == "body_too_large" and watch.why == ["body"]
    assert ask.gate.drain.in_flight == 0


def test_what_the_app_says_of_a_cut_off_body_is_not_logged(client: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The tiny app raises; asyncio would log that with its traceback, were it never looked at."""
    got = asyncio.run(client(batch_bytes=1000)(BATCH, pieces=[b"a" * 999] * 3))
    gc.collect()
    assert got.status == 413 and "Traceback" not in caplog.text and "client gone" not in caplog.text


def test_a_batch_has_a_limit_of_its_own(client: Make, make_key: Make) -> None:
    key, ask = make_key(), client(body_bytes=1000, batch_bytes=5000)
    assert asyncio.run(ask(BATCH, key=key, body=b"a" * 5000)).status == 200
    assert asyncio.run(ask(JUDGE, key=key, body=b"a" * 5000)).status == 413


def test_a_batch_is_passed_on_in_pieces(client: Make, app: Any) -> None:
    sizes: list[int] = []

    async def act(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            sizes.append(len(message["body"]))
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app.act = act
    assert asyncio.run(client()(BATCH, pieces=[b"a", b"bb", b"ccc"])).status == 200 and sizes == [1, 2, 3]


def test_a_body_that_stops_coming_is_given_up(client: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from serve.access import exchange

    monkeypatch.setattr(exchange, "IDLE", 0.05)
    ask = client()

    async def stuck() -> Any:
        sent: list[Any] = []

        async def receive() -> Any:
            if not sent:
                sent.append(1)
                return {"type": "http.request", "body": b"a", "more_body": True}
            await asyncio.sleep(60)

        answers: list[Any] = []

        async def send(message: Any) -> None:
            answers.append(message)

        scope = {"type": "http", "method": "POST", "path": JUDGE, "headers": [], "client": ("127.0.0.1", 1)}
        await ask.gate(scope, receive, send)
        return answers[0]["status"]

    assert asyncio.run(stuck()) == 408


def test_a_line_of_a_batch_waits_for_its_turn(client: Make, make_key: Make, app: Any) -> None:
    key = make_key(limits=OwnLimits(requests_per_minute=3))
    slept: list[float] = []

    async def act(scope: Any, receive: Any, send: Any) -> None:
        caller = scope["caller"]

        async def sleep(seconds: float) -> None:
            slept.append(seconds)
            raise StopAsyncIteration  # the test has no minute

        object.__setattr__(caller, "_sleep", sleep)
        for _ in range(2):
            await caller.turn()
        assert not slept
        with contextlib.suppress(StopAsyncIteration, RuntimeError):
            await caller.turn()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    app.act = act
    assert asyncio.run(client()(BATCH, key=key)).status == 200
    assert 50 < slept[0] <= 60


# -- failures ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["raises", "answers 500"])
def test_a_failure_of_the_app_shows_nothing(
    client: Make, app: Any, caplog: pytest.LogCaptureFixture, capfd: Any, how: str
) -> None:
    async def act(scope: Any, receive: Any, send: Any) -> None:
        if how == "raises":
            raise ValueError("SECRET prompt")
        await send({"type": "http.response.start", "status": 500, "headers": [(b"x-trace", b"SECRET")]})
        await send({"type": "http.response.body", "body": b"SECRET", "more_body": True})
        await send({"type": "http.response.body", "body": b"SECRET"})

    app.act = act
    with caplog.at_level(logging.DEBUG):
        got = asyncio.run(client()(headers=[(b"x-request-id", b"r1")]))
    assert got.status == 500 and got.finished and got.code == "internal_error"
    assert got.header("x-request-id") == "r1"
    time.sleep(0.05)
    seen = str(got.body) + str(got.headers) + caplog.text + "".join(capfd.readouterr())
    assert "SECRET" not in seen and "Traceback" not in seen
    if how == "raises":
        assert "r1: ValueError" in caplog.text


def test_a_failure_in_the_middle_of_an_answer_breaks_it_off_without_a_word(client: Make, app: Any) -> None:
    async def act(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        raise ValueError("SECRET prompt")

    app.act = act
    with pytest.raises(module.Broken) as caught:
        asyncio.run(client()())
    assert "SECRET" not in str(caught.value) and caught.value.__suppress_context__


def test_websockets_are_closed(client: Make, app: Any) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(client().gate({"type": "websocket", "path": JUDGE, "headers": []}, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"] and app.seen == []


# -- rotation, drain, settings, logs -----------------------------------------------------------------------------------


def test_keys_rotate_under_a_running_gate(client: Make, make_key: Make, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from ray_jobs.keys import app as command

    old = make_key()
    ask = client()

    async def status(key: str) -> int:
        ask.gate._keys._looked = 0  # a second has passed
        return int((await ask(key=key)).status)

    async def all_of() -> None:
        path = str(tmp_path / "keys.yaml")
        assert await status(old) == 200
        new = CliRunner().invoke(command, ["rotate", path, old[4:14], "--overlap", "1h"]).stdout.strip()
        assert [await status(old), await status(new)] == [200, 200], "both in the overlap"
        newest = CliRunner().invoke(command, ["rotate", path, new[4:14], "--overlap", "0m"]).stdout.strip()
        assert [await status(new), await status(newest)] == [401, 200], "and not after it"
        CliRunner().invoke(command, ["revoke", path, old[4:14]])
        assert await status(old) == 401

    asyncio.run(all_of())


def test_a_draining_gate_finishes_what_it_has_and_takes_no_more(client: Make, app: Any) -> None:
    ask = client(watch := Counted())

    async def all_of() -> None:
        begun, go = hold(app)
        first = asyncio.create_task(ask())
        await begun.wait()
        ask.gate.drain.begin()
        got = await ask()
        assert got.status == 503 and got.code == "draining"
        assert got.header("retry-after") == "1" and got.header("connection") == "close"
        assert (await ask("/readyz", "GET")).status == 503
        assert not await ask.gate.drain.wait(0.05)
        go.set()
        assert await ask.gate.drain.wait(1)
        assert (await first).body == b"ab"
        app.act = None
        assert (await ask("/healthz", "GET")).status == 200

    asyncio.run(all_of())
    assert watch.why == ["draining"] * 2


def test_the_settings_are_those_of_the_environment(app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "service.yaml"
    path.write_text("body_bytes: 2000\n")
    monkeypatch.setenv("OPENSELENE_SERVICE", str(path))
    assert Gate(app).settings.body_bytes == 2000
    path.write_text(f"keys: {tmp_path}/gone.yaml\n")
    with pytest.raises(UserError, match="No such file"):
        Gate(app)
    monkeypatch.delenv("OPENSELENE_SERVICE")
    assert Gate(app).settings == ServiceSettings()


def test_one_json_line_a_request_without_key_or_text(make_key: Make, tmp_path: Path) -> None:
    """In a process of its own: the log goes to its standard error."""
    import subprocess
    import sys

    key = make_key()
    program = f"""
import asyncio, httpx
from serve.access.gate import Gate
from serve.settings import ServiceSettings
async def app(scope, receive, send):
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b"SECRET"}})
async def main():
    gate = Gate(app, ServiceSettings(keys={str(tmp_path / "keys.yaml")!r}), signals=False)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://a") as http:
        headers = {{"authorization": "Bearer {key}"}}
        await http.post("/v1/judge/pairwise?q=SECRET", content=b"SECRET", headers=headers)
        await http.get("/SECRET")
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[3], check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["route"], line["status"], line["key"], line["bytes"] > 0) for line in lines] == [
        (JUDGE, 200, key[4:14], True),
        ("other", 404, "", True),
    ]
    assert set(lines[0]) == {"time", "id", "key", "route", "status", "seconds", "bytes"}
    assert "SECRET" not in done.stderr and key not in done.stderr


def test_the_app_gets_the_gate_at_the_start(client: Make, app: Any) -> None:
    ask = client()

    async def act(scope: Any, receive: Any, send: Any) -> None:
        assert app.state.gate is ask.gate

    app.act = act
    asyncio.run(ask.gate({"type": "lifespan", "app": app}, None, None))
    assert len(app.seen) == 1


def test_what_the_gate_costs(client: Make, make_key: Make, app: Any) -> None:
    """Printed, not asserted: machines differ (`pytest -s`)."""
    key = make_key()
    ask = client(limits={"requests_per_minute": 1_000_000})
    chat = json.dumps({"messages": [{"role": "user", "content": "word " * 400}], "temperature": 0}).encode()

    async def time_of(call: Callable[[], Any], rounds: int = 1000) -> float:
        for _ in range(50):
            await call()
        began = time.perf_counter()
        for _ in range(rounds):
            await call()
        return (time.perf_counter() - began) / rounds * 1e3

    async def all_of() -> None:
        gate, ask.gate = ask.gate, app
        bare = await time_of(lambda: ask(body=chat))
        ask.gate = gate
        judge, talk = (
            await time_of(lambda: ask(key=key, body=chat)),
            await time_of(lambda: ask(CHAT, key=key, body=chat)),
        )
        print(f"\nms a request: app alone {bare:.3f}, gate {judge - bare:.3f}, gate with chat check {talk - bare:.3f}")

    asyncio.run(all_of())
