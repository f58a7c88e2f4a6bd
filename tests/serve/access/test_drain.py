"""SIGTERM at real servers: uvicorn by itself, and one whose handlers are set as vLLM sets them."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from serve.access.drain import Drain, install

ROOT = Path(__file__).parents[3]
PROGRAM = """
import asyncio, signal, sys
import uvicorn
from fastapi import FastAPI
from serve.access.gate import Gate
from serve.settings import ServiceSettings

how, loop_name, port, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
api = FastAPI()

@api.post("/v1/judge/pairwise")
async def judge():
    await asyncio.sleep(1.5)
    return {"stopped": bool(stopped)}

@api.get("/healthz")
async def health():
    return {}

stopped = []
api.add_middleware(Gate, settings=ServiceSettings(drain=seconds))

async def like_vllm():
    # The order of vLLM 0.29's serve_http: a server without handlers, its task, then handlers of the loop.
    import contextlib
    class Silent(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self):
            yield
    server = Silent(uvicorn.Config(api, port=port, log_level="warning"))
    loop = asyncio.get_running_loop()
    task = loop.create_task(server.serve())
    def handler():
        print("handler of before", flush=True)
        stopped.append(1)
        server.should_exit = True
    loop.add_signal_handler(signal.SIGINT, handler)
    loop.add_signal_handler(signal.SIGTERM, handler)
    await task

if how == "vllm":
    if loop_name == "uvloop":
        import uvloop
        uvloop.run(like_vllm())
    else:
        asyncio.run(like_vllm())
else:
    uvicorn.run(api, port=port, log_level="warning", loop=loop_name)
print("ended", flush=True)
"""


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    how, loop, seconds = arguments
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how, loop, str(port), seconds],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            httpx.get(f"{url}/healthz")
            return process, url
        except httpx.TransportError:
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.05)
    process.kill()
    raise AssertionError("the server did not start")


@pytest.mark.parametrize(("how", "loop"), [("vllm", "uvloop"), ("vllm", "asyncio"), ("uvicorn", "asyncio")])
def test_sigterm_lets_what_is_under_way_end_first(how: str, loop: str) -> None:
    process, url = start(how, loop, "20")
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(httpx.post(f"{url}/v1/judge/pairwise", timeout=30)))
    asking.start()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    late = httpx.post(f"{url}/v1/judge/pairwise")
    assert late.status_code == 503 and late.headers["retry-after"] == "1" and late.headers["connection"] == "close"
    assert httpx.get(f"{url}/healthz").status_code == 200
    asking.join()
    out, error = process.communicate(timeout=20)
    assert answers[0].status_code == 200 and answers[0].json() == {"stopped": False}, error
    assert "drained" in error
    if how == "vllm":
        assert out.splitlines() == ["handler of before", "ended"] and process.returncode == 0


@pytest.mark.parametrize("again", [True, False])
def test_the_drain_ends_by_a_second_signal_or_by_its_time(again: bool) -> None:
    process, url = start("vllm", "uvloop", "20" if again else "0.3")
    asking = threading.Thread(target=lambda: httpx.post(f"{url}/v1/judge/pairwise", timeout=30))
    asking.start()
    time.sleep(0.4)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    if again:
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "handler of before\n"
    assert time.monotonic() - began < 0.9
    asking.join()
    process.communicate(timeout=20)


def test_in_a_thread_nothing_is_installed() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found: list[object] = []

    async def main() -> None:
        found.append(install(Drain(), 1))

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()
    assert found == [None] and signal.getsignal(signal.SIGTERM) is before


def test_waiting_ends_with_the_last_request() -> None:
    async def main() -> None:
        drain = Drain()
        assert await drain.wait(0.01)
        drain.enter()
        drain.enter()
        asyncio.get_running_loop().call_later(0.05, drain.leave)
        assert not await drain.wait(0.1)
        asyncio.get_running_loop().call_later(0.05, drain.leave)
        began = time.monotonic()
        assert await drain.wait(5) and time.monotonic() - began < 1

    asyncio.run(main())
