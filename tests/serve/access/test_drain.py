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
import asyncio, pathlib, signal, sys
import uvicorn
from fastapi import FastAPI
from serve.access.gate import Gate
from serve.settings import ServiceSettings

how, loop_name, port, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
go = pathlib.Path(sys.argv[5])
api = FastAPI()

@api.post("/v1/judge/pairwise")
async def judge():
    print("judging", flush=True)
    while not go.exists():
        await asyncio.sleep(0.02)
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


class Started:
    """A server with a request that ends when it is told to, and not before."""

    def __init__(self, how: str, loop: str, seconds: float, go: Path) -> None:
        self.go = go
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, how, loop, str(port), str(seconds), str(go)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.url = f"http://127.0.0.1:{port}"
        self.answers: list[httpx.Response] = []
        self._wait()
        self.asking = threading.Thread(target=lambda: self.answers.append(self.judge()))
        self.asking.start()
        assert self.line() == "judging"

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                httpx.get(f"{self.url}/healthz")
                return
            except httpx.TransportError:
                assert self.process.poll() is None, self.process.communicate()[1]
                time.sleep(0.05)
        self.process.kill()
        raise AssertionError("the server did not start")

    def judge(self) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/judge/pairwise", timeout=60)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip()

    def terminate(self) -> str:
        """Send SIGTERM; returns what the server says when it begins to drain."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        return next(line for line in self.process.stderr if "under way" in line)

    def release(self) -> tuple[str, str]:
        self.go.touch()
        self.asking.join()
        return self.process.communicate(timeout=60)


@pytest.mark.parametrize(("how", "loop"), [("vllm", "uvloop"), ("vllm", "asyncio"), ("uvicorn", "asyncio")])
def test_sigterm_lets_what_is_under_way_end_first(how: str, loop: str, tmp_path: Path) -> None:
    server = Started(how, loop, 60, tmp_path / "go")
    assert "1 requests under way" in server.terminate()
    late = server.judge()
    assert late.status_code == 503 and late.headers["retry-after"] == "1" and late.headers["connection"] == "close"
    assert httpx.get(f"{server.url}/healthz").status_code == 200
    out, error = server.release()
    assert server.answers[0].status_code == 200 and server.answers[0].json() == {"stopped": False}, error
    assert "drained" in error
    if how == "vllm":
        assert out.splitlines() == ["handler of before", "ended"] and server.process.returncode == 0


@pytest.mark.parametrize("again", [True, False])
def test_the_drain_ends_by_a_second_signal_or_by_its_time(again: bool, tmp_path: Path) -> None:
    server = Started("vllm", "uvloop", 600 if again else 0.3, tmp_path / "go")
    server.terminate()
    if again:
        server.process.send_signal(signal.SIGTERM)
    assert server.line() == "handler of before" and server.asking.is_alive()
    server.release()


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
