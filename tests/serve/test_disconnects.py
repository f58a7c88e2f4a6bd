"""A client that hangs up frees the engine, on a stub of it (labelled so), however the server says so."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message

from tests.serve.stub_judge import ONE, PAIR, StubAsk, app_of

pytestmark = pytest.mark.anyio
GRADER = {
    "grader": {
        "type": "label_model",
        "name": "g",
        "model": "judge",
        "input": [{"role": "user", "content": "Is {{sample.output_text}} right?"}],
        "labels": ["yes", "no"],
        "passing_labels": ["yes"],
    },
    "model_sample": "Oslo",
}
CALLS = [
    ("/v1/judge/pairwise", {**PAIR, "both_orders": True}, 2),
    ("/v1/judge/pairwise", {**PAIR, "both_orders": True, "stream": True}, 2),
    ("/v1/judge/absolute", ONE, 1),
    ("/v1/judge/classify", {**ONE, "stream": True}, 1),
    ("/v1/fine_tuning/alpha/graders/run", GRADER, 1),
]


@pytest.mark.parametrize("by_cancelling", [True, False])
@pytest.mark.parametrize(("path", "body", "judgments"), CALLS)
async def test_work_is_cancelled(path: str, body: Any, judgments: int, by_cancelling: bool) -> None:
    ask = StubAsk()
    ask.hold.clear()
    app = app_of(ask)
    gone = asyncio.Event()
    whole = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def receive() -> Message:
        if whole:
            return whole.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    call = asyncio.create_task(app(scope, receive, send))
    while ask.running < judgments:
        await asyncio.sleep(0.01)
    if by_cancelling:
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        gone.set()
        await asyncio.wait_for(call, 5)
    assert ask.cancelled == judgments and ask.running == 0 and app.state.judge.room.taken == 0
