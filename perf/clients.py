"""Clients of a server under test: ports, waiting until it is there, a load of so many clients."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers 200.

    Raises:
        SystemExit: it ended, or did not answer within five minutes.
    """
    until = time.monotonic() + 300
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    sys.exit(f"no answer from {url}\n{log.read_text()[-3000:]}")


async def load(
    ask: Callable[[dict[str, Any]], Awaitable[int]], queue: list[dict[str, Any]], clients: int, seconds: float
) -> tuple[list[float], float]:
    """Seconds of each request of so many clients, and the whole time until the last one was answered."""
    took: list[float] = []
    start = time.monotonic()
    left = iter(queue)

    async def client() -> None:
        while time.monotonic() - start < seconds:
            one = next(left, None)
            if one is None:
                return
            began = time.monotonic()
            await ask(one)
            took.append(time.monotonic() - began)

    await asyncio.gather(*(client() for _ in range(clients)))
    return took, time.monotonic() - start
