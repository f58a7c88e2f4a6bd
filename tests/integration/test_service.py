"""The judge service as `openselene serve` runs it: a real server with the embedded model, asked over HTTP."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from serve.access.keys import changing
from serve.client import Judge
from tests.integration.server import STORY, Server

PAIR = {"instruction": "What is 2 + 2?", "responses": ["It is 4.", "It is 5."], "rubric": "The better one is right."}
SHORT = {**PAIR, "with_critique": False}
LONG = {**PAIR, "max_tokens": 96, "template": "pairwise_compact"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


def code_of(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_each_task_is_judged_with_probabilities_of_every_verdict(server: Server) -> None:
    with Judge(server.url, server.key) as judge:
        pair = judge.pairwise(**SHORT, both_orders=True)  # type: ignore[arg-type]
        score = judge.absolute(
            instruction="Say hello.",
            response="Hello!",
            max_tokens=8,
            criteria=[{"name": "kind", "rubric": "Is it kind?"}, {"name": "short", "rubric": "Is it short?"}],
        )
        label = judge.classify(
            instruction="Say hello.", response="Hello!", rubric="Is it a greeting?", allowed=["Yes", "No", "Unclear"]
        )
    assert [order.order for order in pair.results[0].orders] == ["given", "swapped"]
    assert pair.results[0].consistent is not None
    assert [one.criterion for one in score.results] == ["kind", "short"]
    assert 1 <= (score.results[0].expected_score or 0) <= 5
    assert set(label.results[0].probabilities) == {"Yes", "No", "Unclear"}
    for found in (*pair.results, *score.results, *label.results):
        assert sum(found.probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert found.parse_status in ("ok", "completed")
    assert pair.usage.prompt_tokens > 40 and len(pair.model_digest) > 8


def test_the_critique_streams_and_ends_with_the_same_judgment(server: Server) -> None:
    heard: list[str] = []
    with Judge(server.url, server.key) as judge:
        streamed = judge.pairwise(**LONG, on_critique=lambda piece: heard.append(piece.text))  # type: ignore[arg-type]
        whole = judge.pairwise(**LONG)  # type: ignore[arg-type]
    assert "".join(heard).strip() == streamed.results[0].critique.strip() == whole.results[0].critique.strip()
    assert streamed.results[0].verdict == whole.results[0].verdict


def test_a_batch_costs_a_bad_line_only(server: Server) -> None:
    lines = [
        {"id": "a", "task": "pairwise", **SHORT},
        {"id": 2, "task": "absolute", "instruction": "i", "response": "r", "with_critique": False},
        {"id": "bad", "task": "pairwise", "instruction": "i", "responses": ["one"]},
    ]
    body = "\n".join(map(json.dumps, lines)) + "\nnot json\n"
    answer = httpx.post(
        f"{server.url}/v1/judge/batch",
        content=body,
        headers={"authorization": f"Bearer {server.key}", "content-type": "application/x-ndjson"},
        timeout=240,
    )
    found = {line["id"]: line for line in map(json.loads, answer.text.splitlines())}
    assert found["a"]["result"]["results"][0]["verdict"] in ("A", "B")
    assert found[2]["result"]["results"][0]["verdict"] in "12345"
    assert found["bad"]["error"]["code"] == "invalid_request"
    assert found[None]["line"] == 4 and found[None]["error"]["code"] == "invalid_json"


def test_openais_client_lists_chats_streams_and_grades(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)
    assert [model.id for model in client.models.list()] == ["judge"]
    said = client.chat.completions.create(
        model="judge", messages=[{"role": "user", "content": "Say hello."}], max_tokens=8, temperature=0
    )
    assert said.choices[0].message.content
    pieces = client.chat.completions.create(
        model="judge",
        messages=[{"role": "user", "content": "Say hello."}],
        max_tokens=8,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert streamed == said.choices[0].message.content
    grader = {
        "type": "score_model",
        "name": "quality",
        "model": "judge",
        "input": [{"role": "user", "content": "Rate this answer to {{item.question}}: {{sample.output_text}}"}],
        "range": [0, 1],
    }
    run = client.fine_tuning.alpha.graders.run(
        grader=grader,  # type: ignore[arg-type]
        model_sample="four",
        item={"question": "2 + 2"},
    )
    assert 0 <= run.reward <= 1 and run.metadata.errors.other_error is False


def test_each_refusal_has_its_status_and_one_form(server: Server) -> None:
    chat = {"model": "judge", "messages": [{"role": "user", "content": "<|im_end|>"}]}
    judge_only = server.add_key("judge only", ("judge",))
    once = server.add_key("once", ("judge",), requests_per_minute=1)
    time.sleep(1.1)  # the file of keys is looked at once a second
    assert (server.post("/v1/judge/pairwise", SHORT, key="sel_unknown")).status_code == 401
    assert code_of(server.post("/v1/chat/completions", chat, key=judge_only)) == "insufficient_scope"
    for path in ("/tokenize", "/v1/completions", "/invocations", "/collective_rpc", "/v1/load_lora_adapter"):
        assert server.post(path, {}).status_code == 404, path
    assert server.post("/v1/judge/pairwise", {**SHORT, "context": "x" * 30_000}).status_code == 413
    assert code_of(server.post("/v1/judge/pairwise", {**SHORT, "colour": "red"})) == "unknown_field"
    assert code_of(server.post("/v1/judge/pairwise", {**SHORT, "context": "a b " * 2500})) == "too_long"
    assert code_of(server.post("/v1/chat/completions", chat)) == "special_tokens"
    assert server.post("/v1/judge/pairwise", SHORT, key=once).status_code == 200
    refused = server.post("/v1/judge/pairwise", SHORT, key=once)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) >= 1
    assert set(refused.json()["error"]) == {"message", "type", "code", "param"}
    assert refused.headers["x-request-id"]


def test_a_full_queue_says_when_to_come_again(server: Server) -> None:
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda _: server.post("/v1/judge/pairwise", {**LONG, "both_orders": True}), range(12)))
    codes = [answer.status_code for answer in found]
    assert set(codes) == {200, 503} and codes.count(200) >= 6
    assert all("retry-after" in answer.headers for answer in found if answer.status_code == 503)


def test_a_flood_of_chats_is_refused_too(server: Server) -> None:
    chat = {"messages": [{"role": "user", "content": "Tell a story."}], "max_tokens": 48, "temperature": 0}
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: server.post("/v1/chat/completions", chat), range(16)))
    codes = [answer.status_code for answer in found]
    assert set(codes) == {200, 503} and codes.count(200) >= 12  # places of the queue
    full = next(answer for answer in found if answer.status_code == 503)
    assert code_of(full) == "queue_full" and full.headers["retry-after"] == "2"


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_its_slot(server: Server, stream: bool) -> None:
    before = server.written()
    assert server.post("/v1/judge/absolute", STORY).status_code == 200
    undisturbed = server.written() - before
    body = json.dumps({**STORY, "stream": stream}).encode()
    head = f"POST /v1/judge/absolute HTTP/1.1\r\nHost: judge\r\nAuthorization: Bearer {server.key}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(head.encode() + body)
        server.until(lambda: server.running() > 0, 60)
    server.until(lambda: server.running() == 0, 60)
    # How long it took is the machine's; how much was written is not.
    assert server.written() - before - undisturbed < 0.8 * undisturbed


def test_keys_change_under_load_without_an_error(server: Server) -> None:
    old = server.add_key("old", ("judge",))
    time.sleep(1.1)
    codes: dict[str, list[int]] = {"old": [], "new": []}
    stop = threading.Event()

    def ask(name: str, key: str) -> None:
        while not stop.is_set():
            codes[name].append(server.post("/v1/judge/pairwise", SHORT, key=key).status_code)

    threads = [threading.Thread(target=ask, args=("old", old))]
    threads[0].start()
    new = server.add_key("new", ("judge",))
    time.sleep(1.2)
    threads.append(threading.Thread(target=ask, args=("new", new)))
    threads[1].start()
    time.sleep(1)
    with changing(server.keys) as entries:
        entries[:] = [entry for entry in entries if entry.name != "old"]
    time.sleep(2)
    stop.set()
    for thread in threads:
        thread.join()
    assert set(codes["new"]) == {200}
    assert codes["old"][0] == 200 and codes["old"][-1] == 401
    assert sorted(codes["old"]) == codes["old"]  # first all answered, then none


def test_nothing_of_a_request_is_in_the_log(server: Server) -> None:
    word = "xylophone-of-the-prompt"
    server.post("/v1/judge/pairwise", {**SHORT, "instruction": word})
    server.post("/v1/judge/pairwise", {**SHORT, "allowed": [word, word]})
    server.post("/v1/chat/completions", {"model": "judge", "messages": [{"role": word, "content": word}]})
    said = server.log.read_text()
    assert word not in said and server.key not in said


def test_sigterm_answers_what_is_under_way_and_refuses_the_rest(server: Server) -> None:
    finish = threading.Event()  # the server cannot be done, and gone, before the one that is refused has come

    def held() -> Iterator[bytes]:
        yield b" "
        finish.wait(120)
        yield json.dumps(SHORT).encode()

    with ThreadPoolExecutor(3) as pool:
        slow = pool.submit(server.post, "/v1/judge/pairwise", held())
        under_way = [pool.submit(server.post, "/v1/judge/absolute", STORY) for _ in range(2)]
        server.until(lambda: server.running() > len(STORY["criteria"]), 60)  # of both
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        late = server.post("/v1/judge/pairwise", SHORT)
        finish.set()
        assert late.status_code == 503 and code_of(late) == "draining" and "retry-after" in late.headers
        assert [one.result().status_code for one in (slow, *under_way)] == [200] * 3
    server.process.wait(240)
