"""The nodes a job had: how many, of what kind, for how long, and what their GPUs cost by the prices of plan.yaml."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipelines.core.metrics import in_ray

EARLY, INTERVAL = 1.0, 30.0  # seconds between looks: until there is a cluster, and then
TYPE = "accelerator_type:"  # how Ray names the type of a node's GPUs among its resources

Seen = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """What a node has.

    Attributes:
        cpus, gpus: of Ray's resources.
        memory_gb: in whole GiB.
        accelerator: the GPUs' type as Ray names it; None where there are none, or it does not know.
    """

    cpus: float
    gpus: float
    memory_gb: int
    accelerator: str | None


def kind_of(node: Seen) -> Kind:
    """What a node of `ray.nodes()` has."""
    resources = node.get("Resources", {})
    named = [name.removeprefix(TYPE) for name in sorted(resources) if name.startswith(TYPE)]
    gpus = float(resources.get("GPU", 0))
    return Kind(
        float(resources.get("CPU", 0)),
        gpus,
        round(resources.get("memory", 0) / 2**30),
        named[0] if named and gpus else None,
    )


def alive() -> list[Seen] | None:
    """The nodes that are there; None without a cluster."""
    if not in_ray():
        return None
    import ray

    try:
        return [node for node in ray.nodes() if node["Alive"]]
    except Exception:  # it is going away, which the job finds out by itself
        return None


class NodeHours:
    """Adds up how long each node was there.

    Args:
        look: gives the nodes that are there.
        clock: seconds.
    """

    def __init__(
        self, look: Callable[[], list[Seen] | None] = alive, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.look, self.clock = look, clock
        self.seconds: dict[str, float] = {}
        self.kinds: dict[str, Kind] = {}
        self.there: list[str] = []
        self.last = clock()
        self.lock = threading.Lock()

    @property
    def seen(self) -> bool:
        """Whether there was a cluster."""
        return bool(self.kinds)

    def tick(self, look: bool = True) -> None:
        """Count the time since the last tick for the nodes of then, and look anew."""
        found = self.look() if look else None
        with self.lock:
            at = self.clock()
            for name in self.there:
                self.seconds[name] += at - self.last
            self.last = at
            if found is None:
                return
            self.there = [node["NodeID"] for node in found]
            for node in found:
                self.kinds[node["NodeID"]] = kind_of(node)
                self.seconds.setdefault(node["NodeID"], 0.0)

    def summary(self) -> list[dict[str, Any]]:
        """The kinds of nodes: how many, their hours together, and what one of them has."""
        found = []
        for kind in sorted(set(self.kinds.values()), key=lambda one: (one.gpus, one.cpus, one.memory_gb)):
            own = [node for node, its in self.kinds.items() if its == kind]
            hours = sum(self.seconds[node] for node in own) / 3600
            found.append({"count": len(own), "hours": round(hours, 4), **vars(kind)})
        return found


def cost(nodes: Sequence[Mapping[str, Any]], prices: Mapping[str, float]) -> dict[str, Any]:
    """What the GPUs of some nodes cost; CPUs have no price in plan.yaml.

    Args:
        nodes: as `NodeHours.summary` gives them.
        prices: dollars an hour of one GPU, by its name in lower case.

    Returns:
        `dollars`, `gpu_hours` and `dollars_per_gpu_hour` by type, and the types `without_price`: with one of them the
        dollars are None.
    """
    hours: dict[str, float] = {}
    for node in nodes:
        if node["gpus"]:
            name = node["accelerator"] or "unknown"
            hours[name] = hours.get(name, 0.0) + node["hours"] * node["gpus"]
    known = {name: prices[name.lower()] for name in hours if name.lower() in prices}
    missing = sorted(hours.keys() - known.keys())
    dollars = round(sum(hours[name] * price for name, price in known.items()), 2)
    return {
        "dollars": None if missing else dollars,
        "gpu_hours": {name: round(count, 4) for name, count in hours.items()},
        "dollars_per_gpu_hour": known,
        "without_price": missing,
    }


@contextmanager
def counting() -> Iterator[NodeHours]:
    """Count the hours of the cluster's nodes from a thread of its own while the block runs."""
    hours, over = NodeHours(), threading.Event()

    def watch() -> None:
        while not over.wait(INTERVAL if hours.seen else EARLY):
            hours.tick()

    thread = threading.Thread(target=watch, name="node-hours", daemon=True)
    thread.start()
    try:
        yield hours
    finally:
        over.set()
        thread.join(timeout=1)  # a cluster that has gone away keeps a look waiting for a minute
