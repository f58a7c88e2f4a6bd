"""What takes too long is given up with 504 and leaves the engine: a real server that gives a request two seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.integration.server import Server

pytestmark = pytest.mark.slow
SECONDS = 2
PAIR = {"instruction": "What is 2 + 2?", "responses": ["It is 4.", "It is 5."], "rubric": "The better one is right."}
# Judgments of about 45 tokens each, one after another.
MANY = {
    "instruction": "Tell the story of the sea.",
    "response": "Once upon a time.",
    "template": "absolute_compact",
    "criteria": [{"name": str(number), "rubric": f"{number}. Is it good?"} for number in range(16)],
    "max_tokens": 96,
}
CHAT = {"messages": [{"role": "user", "content": "Tell a long story."}], "max_tokens": 900, "temperature": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), at_once=1, queue=16, timeout=SECONDS)
    yield running
    running.stop()


def freed(server: Server) -> float:
    """Seconds until the engine is empty."""
    began = time.monotonic()
    server.until(lambda: server.running() == 0, 10)
    return time.monotonic() - began


@pytest.mark.parametrize(("path", "body"), [("/v1/judge/absolute", MANY), ("/v1/chat/completions", CHAT)])
def test_a_request_is_given_up_with_504_and_the_engine_is_free(server: Server, path: str, body: object) -> None:
    began = time.monotonic()
    answer = server.post(path, body)
    assert answer.status_code == 504 and answer.json()["error"]["code"] == "timeout"
    assert SECONDS <= time.monotonic() - began < SECONDS + 4
    assert freed(server) < 2
    assert server.post("/v1/judge/pairwise", {**PAIR, "with_critique": False}).status_code == 200


def test_a_stream_of_critiques_ends_with_the_error(server: Server) -> None:
    with httpx.stream(
        "POST",
        f"{server.url}/v1/judge/absolute",
        json={**MANY, "stream": True},
        headers={"authorization": f"Bearer {server.key}"},
        timeout=60,
    ) as answer:
        events = [event.split("\n") for event in "".join(answer.iter_text()).strip().split("\n\n")]
    assert {name for name, _ in events[:-1]} == {"event: critique"}
    assert events[-1][0] == "event: error"
    assert json.loads(events[-1][1].removeprefix("data: "))["error"]["code"] == "timeout"
    assert freed(server) < 2


def test_openais_client_hears_of_the_end_of_a_stream(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)
    stream = client.chat.completions.create(model="judge", stream=True, **CHAT)  # type: ignore[call-overload]
    heard = 0
    with pytest.raises(openai.APIError, match=f"not done within {SECONDS} seconds"):
        for _ in stream:
            heard += 1
    assert heard > 5
    assert freed(server) < 2
