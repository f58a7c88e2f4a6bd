"""A stand-in for an endpoint, for each test that asks for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.engines.llm.endpoint_standin import KEY, Body, Reply, Standin


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STANDIN_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-host")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def serve() -> Iterator[Callable[..., Standin]]:
    started = []

    def start(*replies: Reply | Callable[[Body], Reply]) -> Standin:
        """A server that gives these replies in turn, the last of them for ever."""
        left = list(replies)

        def reply(body: Body) -> Reply:
            one = left.pop(0) if len(left) > 1 else left[0]
            return one(body) if callable(one) else one

        server = Standin(reply)
        started.append(server.__enter__())
        return server

    yield start
    for server in started:
        server.__exit__()
