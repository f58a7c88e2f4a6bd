"""What the tests of the client share: quick retries, requests, and a client whose requests go to a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2

from serve.client import Judge
from serve.client.retries import Retries

QUICK = Retries(times=3, first=0.01, longest=5.0)
PAIR: Any = {"instruction": "2+2?", "responses": ["4", "5"]}
ONE: Any = {"instruction": "2+2?", "response": "4"}


def mocked(answer: Callable[[httpx2.Request], httpx2.Response]) -> Judge:
    """A client whose requests go to a function."""
    judge = Judge("http://judge")
    judge.retries = QUICK
    judge.http = httpx2.Client(base_url="http://judge", transport=httpx2.MockTransport(answer))
    return judge


def lines(count: int) -> list[dict[str, Any]]:
    return [{"id": f"row {number}", "task": "pairwise", **PAIR} for number in range(count)]
