"""Connecting to Ray: a cluster that is gone is told of, not waited for."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from pipelines.core import ray_internals
from pipelines.core.cluster import RayConfig, answers, connect
from pipelines.core.errors import UserError


@pytest.fixture
def closed() -> str:
    """An address at which nothing listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


def test_a_listening_address_answers_and_a_closed_one_does_not(closed: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert answers(f"127.0.0.1:{server.getsockname()[1]}")
    assert not answers(closed)


@pytest.mark.parametrize("address", ["auto", "local", "ray://head:10001"])
def test_other_forms_of_address_are_left_to_ray(address: str) -> None:
    assert answers(address)


def test_a_named_cluster_that_is_gone_is_one_clear_line(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", closed)
    with pytest.raises(UserError, match=f"{closed}: no Ray cluster answers"):
        connect(RayConfig())


def test_an_address_left_behind_by_a_killed_cluster_is_passed_by(closed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    started: list[dict[str, object]] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def init(**options: object) -> SimpleNamespace:
        started.append(options)
        return SimpleNamespace(dashboard_url=None)

    monkeypatch.setattr(ray_internals, "left_address", lambda: closed)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr("pipelines.core.cluster._ready", lambda dashboard: None)
    connect(RayConfig())
    assert started[0]["address"] == "local"
