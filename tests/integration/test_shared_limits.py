"""One count of requests for all replicas: two gates, each with its own connection, and a real Redis between them."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from serve.access.gate import Gate
from serve.access.keys import OwnLimits, changing, make
from serve.settings import ServiceSettings

pytestmark = pytest.mark.slow
JUDGE = "/v1/judge/pairwise"


class Redis:
    """A running redis-server."""

    def __init__(self, program: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        self.url = f"async+redis://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise AssertionError("redis-server does not answer")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(10)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the first answer of Redis may take longer than a service would wait."""
    monkeypatch.setattr("serve.access.limits.PATIENCE", 10)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    pytest.importorskip("coredis", reason="no client of Redis: pip install 'limits[async-redis]'")
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on this machine (Debian: apt install redis-server)")
    running = Redis(program, tmp_path)
    yield running
    running.stop()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Stub app behind the gate (no engine): what is tested is who gets in."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def replicas(folder: Path, storage: str, per_minute: int) -> tuple[list[httpx.AsyncClient], dict[str, str]]:
    """Clients of two replicas of one service, and the header that opens them."""
    key, entry = make("test", ("judge",), limits=OwnLimits(requests_per_minute=per_minute))
    with changing(folder / "keys.yaml") as entries:
        entries.append(entry)
    settings = ServiceSettings(keys=folder / "keys.yaml", rate_storage=storage)
    found = []
    for _ in range(2):
        gate = Gate(app, settings, SimpleNamespace(request=lambda *_: None, refused=lambda *_: None), signals=False)
        found.append(httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="http://judge"))
    return found, {"authorization": f"Bearer {key}"}


def test_two_replicas_count_together(tmp_path: Path, redis: Redis) -> None:
    async def all_of() -> None:
        both, headers = replicas(tmp_path, redis.url, per_minute=6)
        answers = [await both[number % 2].post(JUDGE, headers=headers) for number in range(8)]
        assert [answer.status_code for answer in answers] == [200] * 6 + [429] * 2
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        at_once = await asyncio.gather(*(one.post(JUDGE, headers=headers) for one in both * 10))
        assert {answer.status_code for answer in at_once} == {429}

    asyncio.run(all_of())


def test_at_once_no_more_get_in_than_may(tmp_path: Path, redis: Redis) -> None:
    async def all_of() -> list[int]:
        both, headers = replicas(tmp_path, redis.url, per_minute=10)
        answers = await asyncio.gather(*(one.post(JUDGE, headers=headers) for one in both * 12))
        return [answer.status_code for answer in answers]

    assert sorted(asyncio.run(all_of())) == [200] * 10 + [429] * 14


def test_a_redis_that_dies_stops_nobody_and_counts_again_when_it_is_back(tmp_path: Path, redis: Redis) -> None:
    async def all_of() -> None:
        both, headers = replicas(tmp_path, redis.url, per_minute=3)
        assert (await both[0].post(JUDGE, headers=headers)).status_code == 200
        redis.stop()
        # Each replica now has a window of its own.
        for one in both:
            began = time.monotonic()
            codes = [(await one.post(JUDGE, headers=headers)).status_code for _ in range(4)]
            assert codes == [200, 200, 200, 429] and time.monotonic() - began < 5
        redis.start()  # with nothing in it
        codes = [(await both[number % 2].post(JUDGE, headers=headers)).status_code for number in range(4)]
        assert codes == [200, 200, 200, 429]

    asyncio.run(all_of())
