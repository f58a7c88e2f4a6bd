"""A real server of the judge, as `openselene serve` runs it, with the embedded model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from serve.access.keys import OwnLimits, changing, make

ROOT = Path(__file__).parents[2]
# Five critiques of a story, which this model writes to the end of the room they have.
STORY: dict[str, Any] = {
    "instruction": "Tell the story of the sea.",
    "response": "Once upon a time.",
    "template": "absolute_compact",
    "criteria": [{"name": str(number), "rubric": f"{number}. Is it good?"} for number in range(5)],
    "max_tokens": 32,
}


class Server:
    """A running server, and the file of its keys."""

    def __init__(
        self, folder: Path, adapters: dict[str, str] | None = None, *, at_once: int = 8, **service: object
    ) -> None:
        self.keys = folder / "keys.yaml"
        self.key = self.add_key("all", ("judge", "chat", "metrics"))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = {
            "engine": {"model": "embedded", "max_model_len": 1024, "max_num_seqs": at_once, "dtype": "float32"},
            "service": {
                "template": "compact",
                "max_tokens": 96,
                "keys": str(self.keys),
                "queue": 12,
                # Nothing here is to fail for a slow machine.
                "timeout": 200,
                "drain": 200,
                "body_bytes": 20_000,
                **service,
            },
            "port": self.port,
            "adapters": adapters or {},
        }
        (folder / "server.yaml").write_text(yaml.safe_dump(config))
        self.log = folder / "server.log"
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "ray_jobs" / "judge_server.py"), "--config", str(folder / "server.yaml")],
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )
        try:
            self.until(lambda: httpx.get(f"{self.url}/readyz").status_code == 200, 600)
        except BaseException:
            self.stop()  # or it would stay, and slow down all that follows
            raise

    def add_key(self, name: str, scopes: tuple[str, ...], **limits: int) -> str:
        key, entry = make(name, scopes, limits=OwnLimits(**limits) if limits else None)  # type: ignore[arg-type]
        with changing(self.keys) as entries:
            entries.append(entry)
        return key

    def until(self, done: object, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                if done():  # type: ignore[operator]
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s\n{self.log.read_text()[-3000:]}")

    def post(self, path: str, body: object, key: str | None = None, **options: object) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key if key is None else key}"}
        content = {"content": body} if isinstance(body, Iterator) else {"json": body}
        headers |= {"content-type": "application/json"}
        return httpx.post(f"{self.url}{path}", headers=headers, timeout=240, **content, **options)  # type: ignore[arg-type]

    def get(self, path: str) -> dict[str, object]:
        """Arguments of httpx.get."""
        return {"url": f"{self.url}{path}", "headers": {"authorization": f"Bearer {self.key}"}}

    def running(self) -> float:
        """Requests in the engine."""
        return self.metric("vllm:num_requests_running")

    def written(self) -> float:
        """Tokens that the engine has written since it started."""
        return self.metric("vllm:generation_tokens_total")

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        page = httpx.get(**self.get("/metrics")).text  # type: ignore[arg-type]
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name + "{"))

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                engine = psutil.Process(self.process.pid).children(recursive=True)
                for process in (self.process, *engine):
                    process.kill()
