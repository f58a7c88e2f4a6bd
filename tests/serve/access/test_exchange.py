"""Clients who leave, bodies that are too long, apps that fail."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from serve.access import gate as module
from serve.access.gate import Gate
from serve.access.keys import OwnLimits
from serve.settings import ServiceSettings
from tests.serve.access.conftest import BATCH, JUDGE, Counted, Make


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
