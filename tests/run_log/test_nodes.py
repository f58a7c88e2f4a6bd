"""Hours of nodes that come and go, and what their GPUs cost."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from pipelines.core.metrics import in_ray
from pipelines.run_log.nodes import Kind, NodeHours, alive, cost, counting, kind_of

HEAD = {"NodeID": "head", "Resources": {"CPU": 4.0, "memory": 8 * 2.0**30}}


def gpu(name: str, accelerator: str | None = "H100") -> dict[str, Any]:
    typed = {f"accelerator_type:{accelerator}": 1.0} if accelerator else {}
    return {"NodeID": name, "Resources": {"CPU": 96.0, "GPU": 8.0, "memory": 2.0**40, **typed}}


def hours_of(*looks: tuple[float, list[dict[str, Any]] | None]) -> NodeHours:
    """What is counted where each look comes some hours after the one before."""
    at, now = 0.0, {"time": 0.0, "nodes": None}
    hours = NodeHours(look=lambda: now["nodes"], clock=lambda: now["time"])  # type: ignore[arg-type, return-value]
    for later, nodes in looks:
        at += later * 3600
        now |= {"time": at, "nodes": nodes}
        hours.tick()
    return hours


def test_a_node_says_what_it_has() -> None:
    assert kind_of(gpu("a")) == Kind(96.0, 8.0, 1024, "H100")
    assert kind_of(HEAD) == Kind(4.0, 0.0, 8, None)
    assert kind_of({"NodeID": "bare"}) == Kind(0.0, 0.0, 0, None)


def test_nodes_count_for_as_long_as_they_were_there() -> None:
    hours = hours_of((1, None), (1, [HEAD]), (2, [HEAD, gpu("a"), gpu("b")]), (1, [HEAD, gpu("b")]), (3, [HEAD]))
    assert hours.summary() == [
        {"count": 1, "hours": 6.0, "cpus": 4.0, "gpus": 0.0, "memory_gb": 8, "accelerator": None},
        {"count": 2, "hours": 5.0, "cpus": 96.0, "gpus": 8.0, "memory_gb": 1024, "accelerator": "H100"},
    ]


def test_a_look_that_fails_keeps_the_nodes_of_before() -> None:
    hours = hours_of((0, [HEAD]), (1, None), (1, [HEAD]))
    assert hours.summary()[0]["hours"] == 2.0


def test_without_a_cluster_there_is_nothing() -> None:
    assert hours_of((1, None), (1, None)).summary() == []
    with counting() as hours:
        hours.tick()
    assert hours.summary() == []


def test_while_another_thread_imports_ray_there_is_no_cluster_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))  # as the import leaves it until it is done
    assert alive() is None
    assert not in_ray()


def test_cost_is_gpu_hours_by_their_price() -> None:
    nodes = hours_of((0, [HEAD, gpu("a"), gpu("b", "L40S")]), (2, [HEAD])).summary()
    assert cost(nodes, {"h100": 12.0, "l40s": 2.5, "laptop": 0.0}) == {
        "dollars": 8 * 2 * 12.0 + 8 * 2 * 2.5,
        "gpu_hours": {"H100": 16.0, "L40S": 16.0},
        "dollars_per_gpu_hour": {"H100": 12.0, "L40S": 2.5},
        "without_price": [],
    }


@pytest.mark.parametrize(("accelerator", "named"), [("B200", "B200"), (None, "unknown")])
def test_a_gpu_without_a_price_leaves_the_cost_open(accelerator: str | None, named: str) -> None:
    found = cost(hours_of((0, [gpu("a", accelerator)]), (1, [])).summary(), {"h100": 12.0})
    assert found["dollars"] is None and found["without_price"] == [named] and found["gpu_hours"] == {named: 8.0}


def test_no_gpu_costs_nothing() -> None:
    assert cost(hours_of((0, [HEAD]), (1, [HEAD])).summary(), {"h100": 12.0})["dollars"] == 0.0
