"""A service for the client: its own routes with a stub engine, and a stub that refuses and hangs up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serve.client import Judge
from tests.serve.client.asking import QUICK
from tests.serve.stub_judge import StubAsk, app_of
from tests.serve.stub_server import KEY, Stub, serving


@pytest.fixture(scope="module")
def routes() -> Iterator[str]:
    """The routes of the service with a stub engine."""
    with serving(app_of(StubAsk())) as url:
        yield url


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def judge(stub: Stub) -> Iterator[Judge]:
    with serving(stub.app) as url, Judge(url, KEY, timeout=20) as judge:
        judge.retries = QUICK
        yield judge
