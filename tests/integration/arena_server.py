"""A real arena in a process of its own, as `openselene arena` runs it, with a stand-in for its judges."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

ROOT = Path(__file__).parents[2]
MANY = dict.fromkeys(("battles_per_minute", "votes_per_minute", "pages_per_minute", "concurrent_battles"), 1_000_000)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program:
    """A Python program that serves on a port; killed at the end if it still runs."""

    def __init__(self, command: list[str], url: str, log: Path, **environment: str) -> None:
        self.command, self.url, self.log, self.environment = command, url, log, environment
        self.start()

    def start(self) -> None:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                stdout=log,
                stderr=log,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": path, **self.environment},
            )
        end = time.monotonic() + 300
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            try:
                httpx.get(self.url, timeout=5)
                return
            except httpx.TransportError:
                time.sleep(0.05)
        self.kill()
        raise AssertionError(self.log.read_text()[-3000:])

    def kill(self) -> None:
        """As a power cut would end it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(30)

    def stop(self) -> int:
        """Politely; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


class StandIn(Program):
    """The stand-in for judges: an endpoint with no model behind it."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.address = f"http://127.0.0.1:{port}/v1"
        stand_in = ROOT / "tests" / "serve" / "arena" / "stand_in.py"
        super().__init__([str(stand_in), str(port)], self.address, folder / "stand_in.log")


class ArenaServer(Program):
    """The arena; `judges` are names of stand-ins."""

    def __init__(self, folder: Path, database: str, judges: dict[str, Any], key: str, **settings: Any) -> None:
        port = free_port()
        config = {
            "judges": judges,
            "database": database,
            "port": port,
            "limits": MANY,
            "battles_at_once": 200,
            "beat_s": 0,
            "refresh_s": 0,
            "resamples": 100,
            **settings,
        }
        self.config, self.address = folder / "arena.yaml", f"http://127.0.0.1:{port}"
        self.config.write_text(yaml.safe_dump(config))
        command = [str(ROOT / "ray_jobs" / "arena.py"), "--config", str(self.config)]
        super().__init__(command, f"{self.address}/healthz", folder / "arena.log", OPENSELENE_ARENA_KEY=key)

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Another command on the same database."""
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            [sys.executable, *self.command, *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )


def stand_ins(address: str, *names: str) -> dict[str, Any]:
    """Judges of a config that the stand-in answers for."""
    return {
        name: {"endpoint": {"endpoint": address, "model": f"model-of-{name}", "retries": 0}, "template": "compact"}
        for name in names
    }
