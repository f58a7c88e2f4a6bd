"""Chats have their places among the judgments, and the time of a request. The app is a stub, the gate is real."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from serve.room import Room
from serve.watch import Watch
from tests.serve.access.conftest import CHAT, Counted, Make, Result, reply, whole


def body(**fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "hi"}], **fields}).encode()


class Slow:
    """What the stub does with a chat: waits until it is let go, or its client has left."""

    def __init__(self, *, begins: bool = False) -> None:
        self.go, self.begins, self.left = asyncio.Event(), begins, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await whole(receive)
        if self.begins:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        leaving = asyncio.ensure_future(receive())
        await asyncio.wait(
            {leaving, going := asyncio.ensure_future(self.go.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        going.cancel()
        if leaving.done():
            self.left += 1
            return
        leaving.cancel()
        await reply(send, b"{}")


def test_a_flood_of_chats_is_refused_and_the_judge_has_the_same_places(client: Make, app: Any) -> None:
    async def all_of() -> None:
        watch = Counted()
        app.act = slow = Slow()
        app.state.room = room = Room(4, Watch())
        ask = client(watch)
        chats = [asyncio.ensure_future(ask(CHAT, body=body())) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert room.taken == 3
        two = await ask(CHAT, body=body(n=2))  # two choices are two answers of the engine
        assert (two.status, two.code, two.header("retry-after")) == (503, "queue_full", "2")
        async with room.take(1):  # a judgment
            assert (await ask(CHAT, body=body())).status == 503
        slow.go.set()
        assert [one.status for one in await asyncio.gather(*chats)] == [200] * 3
        assert room.taken == 0

    asyncio.run(all_of())


def test_a_gate_before_another_app_counts_by_itself(client: Make, app: Any) -> None:
    async def all_of() -> None:
        app.act = slow = Slow()
        ask = client(queue=2)
        chats = [asyncio.ensure_future(ask(CHAT, body=body())) for _ in range(5)]
        await asyncio.sleep(0.05)
        slow.go.set()
        assert sorted(one.status for one in await asyncio.gather(*chats)) == [200, 200, 503, 503, 503]

    asyncio.run(all_of())


def test_a_chat_that_takes_too_long_is_504_and_the_app_hears_of_it(client: Make, app: Any) -> None:
    async def all_of() -> None:
        app.act = slow = Slow()
        app.state.room = room = Room(4, Watch())
        got = await client(watch := Counted(), timeout=0.1)(CHAT, body=body())
        assert (got.status, got.code, slow.left, room.taken, watch.why) == (504, "timeout", 1, 0, ["timeout"])

    asyncio.run(all_of())


def test_a_stream_that_takes_too_long_ends_with_an_error(client: Make, app: Any) -> None:
    async def all_of() -> None:
        app.act = slow = Slow(begins=True)
        got: Result = await client(watch := Counted(), timeout=0.1)(CHAT, body=body(stream=True))
        first, second = got.body.decode().strip().split("\n\n")
        assert got.status == 200 and got.finished and first == "data: {}"
        assert json.loads(second.removeprefix("data: "))["error"]["code"] == "timeout"
        assert slow.left == 1 and watch.why == ["timeout"]

    asyncio.run(all_of())


def test_a_client_who_leaves_gives_its_place_back(client: Make, app: Any) -> None:
    async def all_of() -> None:
        app.act = slow = Slow()
        app.state.room = room = Room(1, Watch())
        ask = client()
        chat = asyncio.ensure_future(ask(CHAT, body=body()))
        await asyncio.sleep(0.05)
        ask.hang_up.set()
        await chat
        assert (slow.left, room.taken) == (1, 0)

    asyncio.run(all_of())
