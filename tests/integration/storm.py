"""A cluster whose nodes come and go at random, and jobs whose drivers are killed on it: what the chaos tests share."""

from __future__ import annotations

import os
import random
import subprocess
import sys
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
        lives: least and most seconds that a driver is left alone once it has said a word, as the machine may be slow to
            start it; None never kills one.
        most: kills after which it is over, and the job may end in peace; None is no end.
    """

    seed: int
    nodes: int = 3
    cpus: int = 2
    every: tuple[float, float] = (3.0, 7.0)
    lives: tuple[float, float] | None = (15.0, 30.0)
    most: int | None = None
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

    def disturb(self, cluster: Any, command: Sequence[str], log: Path, limit: float = 400.0) -> None:
        """Run a driver to its end in the storm: killed, the same command again at once; one node always stays.

        Ray starts nodes in the main thread only, so everything happens in one loop.

        Raises:
            AssertionError: the driver failed by itself, or is not done in `limit` seconds.
        """
        draw, began = random.Random(self.seed), time.monotonic()
        gust = began + draw.uniform(*self.every)
        driver, said, life, end = None, 0, limit, began
        try:
            while True:
                if driver is None:
                    said = log.stat().st_size if log.exists() else 0
                    driver, end = start(command, log), began + limit
                    life = draw.uniform(*self.lives) if self.lives else limit
                now = time.monotonic()
                if end == began + limit and log.stat().st_size > said:
                    end = now + life
                if (code := driver.poll()) is not None:
                    assert code == 0, f"the driver ended with {code}:\n{log.read_text()[-5000:]}"
                    return
                assert now < began + limit, f"not done after {limit:.0f} s:\n{log.read_text()[-3000:]}"
                if self.over:
                    time.sleep(0.1)
                elif now > end:
                    driver.kill()
                    driver.wait()
                    driver = None
                    self.kills["drivers"] += 1
                elif now > gust:
                    self.gust(cluster, draw)
                    gust = time.monotonic() + draw.uniform(*self.every)
                else:
                    time.sleep(0.1)
        finally:
            if driver is not None and driver.poll() is None:
                driver.kill()
                driver.wait()

    @property
    def over(self) -> bool:
        """Whether it has spent itself."""
        return self.most is not None and self.kills.total() >= self.most

    def gust(self, cluster: Any, draw: random.Random) -> None:
        """Take one or two nodes away, or none, and bring new ones, or not."""
        # Ray's set of nodes has no order of its own: without one the seed would decide nothing.
        nodes = sorted(cluster.worker_nodes, key=lambda node: str(node.unique_id))
        leaving = draw.randint(1, min(2, len(nodes) - 1)) if len(nodes) > 1 and draw.random() < 0.8 else 0
        for node in draw.sample(nodes, leaving):
            cluster.remove_node(node, allow_graceful=False)
            self.kills["nodes"] += 1
        while len(cluster.worker_nodes) < self.nodes and draw.random() < 0.8:
            try:
                cluster.add_node(num_cpus=self.cpus, wait=False, **QUIET)
            except Exception as exc:
                if "timed out during startup" not in str(exc):
                    raise
                return  # this machine is too busy to start one: then none comes


def start(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """A driver, which writes into a log."""
    with log.open("ab") as file:
        return subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=file, stderr=file, start_new_session=True)


CALM = (float("inf"), float("inf"))  # `every` of a storm in which nothing happens


def training_storm(seed: int) -> Storm:
    """A storm that leaves a training the time to start: workers import torch for as long as other jobs' nodes live."""
    return Storm(seed, nodes=2, every=(20.0, 35.0), lives=(50.0, 80.0))
