"""A cluster whose nodes come and go at random, and jobs whose drivers are killed on it: what the chaos tests share."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .conftest import ROOT

# Ray takes 15 s to notice that a machine is gone; with nodes that live for as long, none would ever be noticed.
NOTICE = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "700",
    "RAY_health_check_timeout_ms": "5000",
    "RAY_health_check_failure_threshold": "3",
}
QUIET: dict[str, Any] = {"include_dashboard": False}


@dataclass
class Storm:
    """Kills, by what was killed, in a random order that the seed decides.

    Attributes:
        seed: of every choice.
        nodes: most that work at once, beside a head without CPUs.
        cpus: logical ones of each.
        every: least and most seconds between two losses of a node.
        lives: least and most seconds that a driver is left alone; None never kills one.
    """

    seed: int
    nodes: int = 3
    cpus: int = 2
    every: tuple[float, float] = (3.0, 7.0)
    lives: tuple[float, float] | None = (12.0, 25.0)
    kills: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def cluster(self) -> Iterator[Any]:
        """The cluster, calm so far."""
        from ray.cluster_utils import Cluster

        before = {name: os.environ.get(name) for name in NOTICE}
        os.environ.update(NOTICE)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **QUIET})
        try:
            for _ in range(self.nodes):
                cluster.add_node(num_cpus=self.cpus, **QUIET)
            yield cluster
        finally:
            cluster.shutdown()
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value

    @contextmanager
    def raging(self, cluster: Any) -> Iterator[None]:
        """Take nodes away and bring new ones, as long as the block runs; one always stays."""
        over, draw = threading.Event(), random.Random(self.seed)

        def rage() -> None:
            while not over.wait(draw.uniform(*self.every)):
                # Ray's set of nodes has no order of its own: without one the seed would decide nothing.
                nodes = sorted(cluster.worker_nodes, key=lambda node: node.unique_id)
                leaving = draw.randint(1, len(nodes) - 1) if len(nodes) > 1 and draw.random() < 0.7 else 0
                for node in draw.sample(nodes, min(leaving, 2)):
                    cluster.remove_node(node, allow_graceful=False)
                    self.kills["nodes"] += 1
                while len(cluster.worker_nodes) < self.nodes and draw.random() < 0.7:
                    cluster.add_node(num_cpus=self.cpus, wait=False, **QUIET)

        thread = threading.Thread(target=rage, name="storm", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def drive(self, command: Sequence[str], log: Path, limit: float = 600.0) -> None:
        """Run a driver to its end, however often it is killed: each time the same command again, at once.

        Raises:
            AssertionError: it failed by itself, or is not done in `limit` seconds.
        """
        draw, deadline = random.Random(f"driver {self.seed}"), time.monotonic() + limit
        while True:
            with log.open("ab") as file:
                driver = subprocess.Popen(
                    [sys.executable, *command], cwd=ROOT, stdout=file, stderr=file, start_new_session=True
                )
            left = max(deadline - time.monotonic(), 0.1)
            try:
                code = driver.wait(min(draw.uniform(*self.lives), left) if self.lives else left)
            except subprocess.TimeoutExpired:
                os.kill(driver.pid, signal.SIGKILL)
                driver.wait()
                assert time.monotonic() < deadline, f"not done after {limit:.0f} s:\n{log.read_text()[-3000:]}"
                self.kills["drivers"] += 1
                continue
            assert code == 0, f"the driver ended with {code}:\n{log.read_text()[-5000:]}"
            return


def training_storm(seed: int) -> Storm:
    """A storm that leaves a training the time to start: workers import torch for as long as other jobs' nodes live."""
    return Storm(seed, nodes=2, every=(20.0, 35.0), lives=(50.0, 80.0))
