"""Connecting to Ray: a cluster that is gone is told of, not waited for."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.core import cluster, ray_internals
from pipelines.core.cluster import RayConfig, answers, check_shared, configure_data, connect
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


def nodes(monkeypatch: pytest.MonkeyPatch, blind: set[str]) -> None:
    """Two nodes, of which some see no file."""
    import ray

    def options(scheduling_strategy: Any) -> Any:
        node = scheduling_strategy.node_id
        return SimpleNamespace(remote=lambda place: node not in blind and place.exists())

    def remote(**_: Any) -> Callable[[Any], Any]:
        return lambda function: SimpleNamespace(options=options)

    found = [{"NodeID": id * 28, "NodeManagerAddress": f"10.0.0.{id}", "Alive": True} for id in ("a1", "b2")]
    monkeypatch.setattr(ray, "nodes", lambda: found)
    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(ray, "get", lambda value: value)


def test_a_folder_that_all_nodes_see_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nodes(monkeypatch, set())
    check_shared(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_a_node_does_not_see_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nodes(monkeypatch, {"b2" * 28})
    with pytest.raises(UserError, match=r"out_dir .*: node 10\.0\.0\.b2 does not see this folder"):
        check_shared(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_node_that_goes_while_it_is_asked_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import ray

    def get(found: bool) -> bool:
        if not found:
            raise ray.exceptions.NodeDiedError("it is gone")
        return found

    nodes(monkeypatch, {"b2" * 28})
    monkeypatch.setattr(ray, "get", get)
    check_shared(tmp_path / "out")


@pytest.mark.parametrize("killed", [1, 5])
def test_a_job_after_killed_ones_has_the_whole_cluster_soon(killed: int) -> None:
    # Ray's own coordinator, without an actor around it.
    from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator as coordinator
    from ray.data._internal.cluster_autoscaler import rate_based_cluster_autoscaler as autoscaler

    (name,), (seconds,) = cluster.SOON.keys(), cluster.SOON.values()
    assert f'"{name}"' in inspect.getsource(autoscaler)  # read when it is imported
    now = 0.0
    found = [{"Alive": True, "NodeID": "a", "Resources": {"CPU": 4.0}, "Labels": {}}]
    actor = coordinator._AutoscalingCoordinatorActor(
        get_current_time=lambda: now, send_resources_request=lambda *_, **__: None, get_cluster_nodes=lambda: found
    )
    for driver in range(killed + 1):
        actor.request_resources(str(driver), [{"CPU": 0.5}] * 4, float(seconds), request_remaining=["CPU"])
    assert actor.get_reserved_resources(str(killed)).get("a", {}).get("CPU", 0) < 4
    now = float(seconds) + 1
    actor.request_resources(str(killed), [{"CPU": 0.5}] * 4, float(seconds), request_remaining=["CPU"])
    actor._tick()
    assert actor.get_reserved_resources(str(killed))["a"]["CPU"] == 4


def test_ray_tries_again_after_what_passes_by_itself() -> None:
    import ray
    from ray._common.retry import matches_error

    configure_data()
    patterns = ray.data.DataContext.get_current().retried_io_errors
    for said in (
        "AWS Error UNKNOWN (HTTP status 500) during HeadObject operation",
        "AWS Error UNKNOWN (HTTP status 429) during DeleteObject operation: No response body",
        "AWS Error NETWORK_CONNECTION during PutObject operation: curlCode: 28, Timeout was reached",
    ):
        assert any(matches_error(pattern, f"OSError: {said}") for pattern in patterns)
    assert not any(matches_error(pattern, "OSError: AWS Error ACCESS_DENIED") for pattern in patterns)


@pytest.mark.parametrize(("mode", "told"), [("token", True), ("disabled", False), (None, False)])
def test_who_opens_the_dashboard_is_told_of_its_token(
    mode: str | None, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    assert ("ray get-auth-token" in cluster.shown("127.0.0.1:8265")) is told
    assert cluster.shown(None) == ""
