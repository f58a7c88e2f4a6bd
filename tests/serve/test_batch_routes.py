"""Batches on a stub engine (labelled so): lines in, lines out, as they come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.types import Message

from serve.batch import Batch
from serve.lines import LineLimits, Lines
from tests.serve.stub_judge import StubAsk, app_of, client_of

pytestmark = pytest.mark.anyio


def line(name: Any, **changes: Any) -> dict[str, Any]:
    return {"id": name, "task": "pairwise", "instruction": "Capital?", "responses": ["Oslo", "Bergen"], **changes}


def body_of(*lines: Any) -> bytes:
    return b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines)


async def batch(app: Any, *lines: Any) -> list[dict[str, Any]]:
    async with client_of(app) as client:
        answer = await client.post("/v1/judge/batch", content=body_of(*lines))
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(one) for one in answer.text.splitlines()]


class Client:
    """A client by hand: says what the app receives, and keeps what it sends."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.news = asyncio.Event()

    def say(self, body: bytes, more: bool = True) -> None:
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def hang_up(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def receive(self) -> Message:
        return await self.incoming.get()

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        self.news.set()

    @property
    def answers(self) -> list[dict[str, Any]]:
        text = b"".join(one.get("body", b"") for one in self.sent)
        return [json.loads(one) for one in text.splitlines()]

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.answers) < count:
                self.news.clear()
                await self.news.wait()


async def test_each_task_is_answered_by_the_callers_id() -> None:
    one = {"instruction": "Capital?", "response": "Oslo"}
    found = await batch(
        app_of(StubAsk()), line("x"), {"id": 7, "task": "absolute", **one}, {"id": "y", "task": "classify", **one}
    )
    assert {(said["id"], said["result"]["task"]) for said in found} == {
        ("x", "pairwise"),
        (7, "absolute"),
        ("y", "classify"),
    }


@pytest.mark.parametrize(
    ("bad", "name", "code"),
    [
        (b"{", None, "invalid_json"),
        (b"\xff\xfe", None, "invalid_json"),
        (b"[" * 1500, None, "invalid_json"),
        (b"[1]", None, "invalid_request"),
        (line("z", colour="red"), "z", "unknown_field"),
        (line("z", responses=["a"]), "z", "invalid_request"),
        (line("z", task="essay"), "z", "invalid_request"),
        (line("z", stream=True), "z", "invalid_request"),
        (line("z", model="gpt"), "z", "model_not_found"),
        (line(True), None, "invalid_request"),
        (line(2**60), None, "invalid_request"),
        (line("\ud800"), None, "invalid_request"),
        (line("n" * 201), None, "invalid_request"),
        (line("first"), "first", "duplicate_id"),
        (line("z", context="c" * 300), "z", "field_too_long"),
        (line("z", context="c" * 3000), None, "line_too_long"),
    ],
)
async def test_a_bad_line_costs_itself_alone(bad: Any, name: Any, code: str) -> None:
    app = app_of(StubAsk(), field_characters=200, body_bytes=2000)
    found = await batch(app, line("first"), b"", bad, line("last"))
    assert len(found) == 3
    by_line = {said.get("line"): said for said in found}
    assert by_line[3]["error"]["code"] == code and by_line[3]["id"] == name and "result" not in by_line[3]
    assert {said["id"] for said in found if "result" in said} == {"first", "last"}


async def test_1_and_the_text_1_are_two_ids() -> None:
    assert all("result" in said for said in await batch(app_of(StubAsk()), line(1), line("1")))


async def test_more_lines_or_bytes_than_allowed_end_a_batch_after_what_was_good() -> None:
    found = await batch(app_of(StubAsk(), batch_lines=2), line("a"), line("b"), line("c"))
    assert {said["id"] for said in found} == {"a", "b", None}
    assert found[-1]["error"]["code"] == "too_many_lines" and found[-1]["line"] == 3
    found = await batch(app_of(StubAsk(), batch_bytes=1000), line("a", context="c" * 2000))
    assert [said["error"]["code"] for said in found] == ["batch_too_large"]
    assert len(await batch(app_of(StubAsk(), batch_lines=2), line("a"), line("b"), b"")) == 2


async def test_the_first_answer_comes_before_the_body_has_ended() -> None:
    client, app = Client(), app_of(StubAsk())
    running = asyncio.create_task(Batch(app.state.judge)({}, client.receive, client.send))
    client.say(body_of(line("a"), line("b"))[:-5])  # the second line is not whole yet
    await client.until(1)
    assert [said["id"] for said in client.answers] == ["a"] and client.incoming.empty()
    client.say(body_of(line("a"), line("b"))[-5:], more=False)
    await asyncio.wait_for(running, 5)
    assert [said["id"] for said in client.answers] == ["a", "b"]
    assert [one["type"] for one in client.sent].count("http.response.start") == 1 and not client.sent[-1]["more_body"]


async def test_answers_come_in_order_of_completion() -> None:
    ask = StubAsk()
    wait = ask.hold.wait

    async def slow_first() -> bool:
        return await wait() if "SLOW" in ask.prompts[ask.started - 1] else True

    ask.hold.wait = slow_first  # type: ignore[method-assign]
    ask.hold.clear()
    client, app = Client(), app_of(ask)
    running = asyncio.create_task(Batch(app.state.judge)({}, client.receive, client.send))
    client.say(body_of(line("slow", instruction="SLOW"), line("fast")), more=False)
    await client.until(1)
    assert client.answers[0]["id"] == "fast"
    ask.hold.set()
    await asyncio.wait_for(running, 5)
    assert client.answers[1]["id"] == "slow"


async def test_no_more_lines_are_judged_at_once_than_batches_may() -> None:
    ask = StubAsk()
    ask.hold.clear()
    client, app = Client(), app_of(ask, queue=8)
    running = asyncio.create_task(Batch(app.state.judge)({}, client.receive, client.send))
    client.say(body_of(*(line(n) for n in range(40))), more=False)
    while ask.running < 4:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
    assert ask.started == 4  # half of the queue: single requests have the rest
    ask.hold.set()
    await asyncio.wait_for(running, 5)
    assert len(client.answers) == 40 and ask.most == 4 and app.state.judge.room.taken == 0


async def test_a_slow_reader_holds_up_the_judging() -> None:
    client, ask = Client(), StubAsk()
    app, reading = app_of(ask, queue=4), asyncio.Event()

    async def send(message: Message) -> None:
        await reading.wait()
        await client.send(message)

    running = asyncio.create_task(Batch(app.state.judge)({}, client.receive, send))
    client.say(body_of(*(line(n) for n in range(50))), more=False)
    await asyncio.sleep(0.2)
    assert ask.started == 2
    reading.set()
    await asyncio.wait_for(running, 5)
    assert len(client.answers) == 50


@pytest.mark.parametrize("lines", [4, 400])
@pytest.mark.parametrize("ended", [True, False])
async def test_a_hang_up_cancels_everything(lines: int, ended: bool) -> None:
    ask = StubAsk()
    ask.hold.clear()
    client, app = Client(), app_of(ask, queue=4)
    running = asyncio.create_task(Batch(app.state.judge)({}, client.receive, client.send))
    client.say(body_of(*(line(n) for n in range(lines))), more=not ended)
    while ask.running < 2:
        await asyncio.sleep(0.01)
    client.hang_up()
    await asyncio.wait_for(running, 5)
    assert ask.cancelled == ask.started == 2 and ask.running == 0 and app.state.judge.room.taken == 0


async def test_a_cancelled_call_cancels_everything() -> None:
    ask = StubAsk()
    ask.hold.clear()
    client, app = Client(), app_of(ask)
    running = asyncio.create_task(Batch(app.state.judge)({}, client.receive, client.send))
    client.say(body_of(line(1), line(2)), more=False)
    while ask.running < 2:
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ask.cancelled == 2 and app.state.judge.room.taken == 0


async def test_a_body_that_stops_coming_ends_the_batch() -> None:
    client, app = Client(), app_of(StubAsk(), timeout=0.05)
    running = asyncio.create_task(Batch(app.state.judge)({}, client.receive, client.send))
    client.say(body_of(line(1)) + b"\n")
    await asyncio.wait_for(running, 5)
    assert [said.get("error", {}).get("code") for said in client.answers] == [None, "timeout"]


async def test_each_line_but_the_first_takes_a_turn_of_the_key() -> None:
    turns = []

    async def turn() -> None:
        turns.append(1)

    app = app_of(StubAsk())

    @app.middleware("http")
    async def gate(request: Any, call_next: Any) -> Any:
        request.scope["caller"] = SimpleNamespace(turn=turn)
        return await call_next(request)

    assert len(await batch(app, line(1), line(2), line(3))) == 3
    assert len(turns) == 2


async def split(chunks: Sequence[bytes], **limits: int) -> list[tuple[int, bytes | None]]:
    client = Client()
    for chunk in chunks:
        client.say(chunk)
    client.say(b"", more=False)
    lines = Lines(client.receive, LineLimits(**{"line_bytes": 10, "bytes": 1000, "lines": 100, "idle": 1, **limits}))
    reading = asyncio.create_task(lines.read())
    found = [(one.number, one.text) async for one in lines]
    reading.cancel()
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_lines_are_the_same_however_the_body_is_cut(size: int) -> None:
    body = b"one\n\n two \r\n" + b"x" * 11 + b"\n" + b"y" * 10 + b"\n\xc3\xa6\nlast"
    found = await split([body[start : start + size] for start in range(0, len(body), size)])
    assert found == [
        (1, b"one"),
        (3, b" two \r"),
        (4, None),
        (5, b"y" * 10),
        (6, "æ".encode()),
        (7, b"last"),
    ]
