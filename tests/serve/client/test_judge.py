"""The client: against the service's own routes (with a stub engine), and against a stub that refuses and hangs up."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import httpx2
import pytest

from serve.client import AsyncJudge, Judge, JudgeError, Piece
from serve.client.errors import seconds_of
from serve.client.retries import Retries
from tests.serve.client.asking import ONE, PAIR, QUICK, lines, mocked
from tests.serve.stub_server import KEY, Stub, serving

# One judgment


def test_each_task_of_the_service_is_answered_with_a_typed_judgment(routes: str) -> None:
    with Judge(routes) as judge:
        pair = judge.pairwise(**PAIR, both_orders=True, rubric="Which is right?")
        score = judge.absolute(**ONE, allowed=["1", "2", "3"], criteria=[{"name": "facts", "rubric": "right?"}])
        label = judge.classify(**ONE, rubric="Is it right?", with_critique=False)
    assert pair.task == "pairwise" and [one.order for one in pair.results[0].orders] == ["given", "swapped"]
    assert sum(pair.results[0].probabilities.values()) == pytest.approx(1)
    assert score.results[0].criterion == "facts" and score.results[0].expected_score is not None
    assert label.results[0].verdict in ("Yes", "No")


@pytest.mark.anyio
async def test_each_task_for_asyncio(routes: str) -> None:
    async with AsyncJudge(f"{routes}/v1/") as judge:
        answers = await asyncio.gather(
            judge.pairwise(**PAIR), judge.absolute(**ONE), judge.classify(**ONE, rubric="Is it right?")
        )
    assert [one.task for one in answers] == ["pairwise", "absolute", "classify"]


def test_critique_is_heard_as_it_is_written(routes: str) -> None:
    heard: list[Piece] = []
    with Judge(routes) as judge:
        found = judge.pairwise(**PAIR, both_orders=True, on_critique=heard.append)
    assert found.results[0].verdict == "A" or found.results[0].verdict == "B"
    assert {piece.order for piece in heard} == {"given", "swapped"}
    assert "".join(piece.text for piece in heard if piece.order == "given").startswith("Well said")


@pytest.mark.anyio
async def test_critique_is_heard_for_asyncio(routes: str) -> None:
    heard: list[Piece] = []
    async with AsyncJudge(routes) as judge:
        found = await judge.absolute(**ONE, on_critique=heard.append)
    assert found.task == "absolute" and heard


def test_what_is_left_out_is_not_sent(judge: Judge, stub: Stub) -> None:
    judge.absolute(response="4", instruction="2+2?", rubric=None)  # type: ignore[arg-type]
    assert stub.seen == [("/v1/judge/absolute", {"response": "4", "instruction": "2+2?"})]


def test_refusal_says_status_code_message_and_request(judge: Judge) -> None:
    with pytest.raises(JudgeError) as caught:
        judge.absolute(response="4", instruction="refuse")
    error = caught.value
    assert (error.status, error.code, error.request_id, error.again) == (422, "invalid_request", "req-1", False)
    assert str(error) == "422 invalid_request: stub: invalid_request (request req-1)"


def test_key_comes_from_the_environment_and_is_not_shown(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(stub.app) as url:
        monkeypatch.setenv("OPENSELENE_API_KEY", KEY)
        with Judge(url) as judge:
            assert judge.absolute(**ONE).task == "absolute"
            assert KEY not in repr(vars(judge))
        with Judge(url, "sel_wrong") as judge, pytest.raises(JudgeError) as caught:
            judge.absolute(**ONE)
    assert (caught.value.status, caught.value.code) == (401, "no_key")
    assert "sel_wrong" not in str(caught.value)


def test_answer_of_something_else_is_no_judgment() -> None:
    with mocked(lambda request: httpx2.Response(200, text="hello")) as judge:
        with pytest.raises(JudgeError) as caught:
            judge.pairwise(**PAIR)
        assert caught.value.code == "not_a_judgment"
        with pytest.raises(JudgeError) as caught:
            list(judge.batch(lines(1)))
        assert caught.value.code == "connection"  # no whole line


# Retries


@pytest.mark.parametrize("status", [429, 502, 503])
def test_refusal_for_now_is_tried_again(judge: Judge, stub: Stub, status: int) -> None:
    stub.refusals = [(status, "busy", {}), (status, "busy", {})]
    assert judge.pairwise(**PAIR).task == "pairwise"
    assert len(stub.seen) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 500, 504])
def test_refusal_for_good_is_not(judge: Judge, stub: Stub, status: int) -> None:
    stub.refusals = [(status, "no", {})]
    with pytest.raises(JudgeError) as caught:
        judge.pairwise(**PAIR)
    assert (caught.value.status, len(stub.seen)) == (status, 1)


def test_tries_end(judge: Judge, stub: Stub) -> None:
    stub.refusals = [(503, "queue_full", {})] * 10
    with pytest.raises(JudgeError) as caught:
        judge.pairwise(**PAIR)
    assert caught.value.code == "queue_full" and len(stub.seen) == 1 + QUICK.times


def test_retry_after_is_waited_for(judge: Judge, stub: Stub) -> None:
    stub.refusals = [(429, "rate", {"Retry-After": "1"})]
    begun = time.monotonic()
    judge.pairwise(**PAIR)
    assert time.monotonic() - begun >= 1


def test_who_asks_for_too_long_a_wait_is_not_waited_for(judge: Judge, stub: Stub) -> None:
    stub.refusals = [(503, "down", {"Retry-After": "3600"})]
    with pytest.raises(JudgeError) as caught:
        judge.pairwise(**PAIR)
    assert caught.value.retry_after == 3600


@pytest.mark.anyio
async def test_retries_for_asyncio(stub: Stub) -> None:
    stub.refusals = [(503, "busy", {}), (429, "busy", {})]
    with serving(stub.app) as url:
        async with AsyncJudge(url, KEY) as judge:
            judge.retries = QUICK
            assert (await judge.pairwise(**PAIR)).task == "pairwise"
            stub.refusals = [(422, "no", {})]
            with pytest.raises(JudgeError):
                await judge.pairwise(**PAIR)
    assert len(stub.seen) == 4


def test_waits_grow_and_differ() -> None:
    busy = JudgeError(503, "busy", "", again=True)
    retries = Retries(times=10, first=1.0, longest=20.0)
    for tried, longest in ((0, 1), (1, 2), (3, 8), (9, 20)):
        waits = {retries.wait(tried, busy) for _ in range(50)}
        assert longest / 2 <= min(waits) < max(waits) <= longest
    asked = JudgeError(429, "busy", "", again=True, retry_after=7.0)
    assert all(7 <= retries.wait(0, asked) <= 8 for _ in range(50))


@pytest.mark.parametrize(
    ("said", "seconds"), [(None, 0), ("", 0), ("3", 3), ("soon", 0), ("-1", 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)]
)
def test_retry_after_header(said: str | None, seconds: float) -> None:
    assert seconds_of(said) == seconds


def test_retry_after_as_a_date() -> None:
    said = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 28 <= seconds_of(said) <= 31


def test_lost_connection_is_tried_again_and_then_said() -> None:
    calls = []

    def lost(request: httpx2.Request) -> httpx2.Response:
        calls.append(request)
        raise httpx2.RemoteProtocolError("gone")

    with mocked(lost) as judge, pytest.raises(JudgeError) as caught:
        judge.pairwise(**PAIR)
    assert (caught.value.status, caught.value.code, len(calls)) == (None, "connection", 1 + QUICK.times)


def test_late_answer_is_not_asked_for_twice() -> None:
    calls = []

    def late(request: httpx2.Request) -> httpx2.Response:
        calls.append(request)
        raise httpx2.ReadTimeout("late")

    with mocked(late) as judge, pytest.raises(JudgeError) as caught:
        judge.pairwise(**PAIR)
    assert (caught.value.code, len(calls)) == ("timeout", 1)


def test_stream_is_tried_again_only_before_its_first_piece(judge: Judge, stub: Stub) -> None:
    heard: list[str] = []
    stub.refusals = [(503, "busy", {})]
    judge.pairwise(**PAIR, on_critique=lambda piece: heard.append(piece.text))
    assert heard == ["It ", "answers.\nWell."]
    for instruction, code in (("cut", "connection"), ("fail late", "timeout")):
        stub.seen.clear()
        with pytest.raises(JudgeError) as caught:
            judge.absolute(response="4", instruction=instruction, on_critique=lambda piece: None)
        assert (caught.value.code, len(stub.seen)) == (code, 1)


def test_exception_of_the_listener_is_the_callers(judge: Judge) -> None:
    def fails(piece: Piece) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        judge.pairwise(**PAIR, on_critique=fails)


# The package


def test_client_needs_no_engine() -> None:
    engines = "{'torch', 'vllm', 'ray', 'transformers', 'fastapi'}"
    program = f"import sys, serve.client; print(*({engines} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("base", ["http://judge", "http://judge/", "http://judge/v1", "http://judge/v1/"])
def test_address_with_or_without_v1(base: str) -> None:
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(str(request.url))
        return httpx2.Response(422, json={})

    judge = Judge(base)
    judge.http = httpx2.Client(base_url=judge.http.base_url, transport=httpx2.MockTransport(answer))
    with pytest.raises(JudgeError):
        judge.pairwise(**PAIR)
    assert asked == ["http://judge/v1/judge/pairwise"]


def test_requests_that_begin_alike_name_one_replica() -> None:
    from serve.client.wire import same_replica

    one = same_replica({"instruction": "i", "context": "c", "responses": ["a", "b"]})
    assert one == same_replica({"instruction": "i", "context": "c", "responses": ["b", "a"], "rubric": "r"})
    assert one != same_replica({"instruction": "i", "context": "other", "responses": ["a", "b"]})


def test_a_bare_500_is_the_proxys_and_may_be_asked_again() -> None:
    import httpx2

    from serve.client.errors import refused

    assert refused(httpx2.Response(500, text="Internal Server Error")).again
    ours = {"error": {"message": "the service failed on this request", "code": "internal_error"}}
    assert not refused(httpx2.Response(500, json=ours)).again
