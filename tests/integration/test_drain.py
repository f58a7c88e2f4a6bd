"""The notice that spot nodes get (`ray drain-node`; autoscaler v2 sends it too): work in hand is finished in time."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.cluster import configure_data
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.training.train import train
from tests.training.tiny import pair_rows, write_model, write_pairs

from . import faults, storm_jobs
from .disturbed import settled
from .faults import calls, examples, fault
from .storm_jobs import curation
from .test_elastic import config, steps_of
from .test_submit import RAY

DEADLINE_S = 20


@pytest.fixture
def cluster(own_ray: None) -> Iterator[Any]:
    """Room for everything on the first node, and a second one, which is given notice."""
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()  # of the modules before
    quiet: dict[str, Any] = {"include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, **quiet})
    try:
        found.add_node(num_cpus=2, **quiet)
        ray.init(address=found.address, logging_level="ERROR", log_to_driver=False)
        for module in (faults, storm_jobs):  # workers need not be able to import these files
            ray.cloudpickle.register_pickle_by_value(module)
        configure_data()
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def give_notice(cluster: Any, node: Any, over: Callable[[], bool]) -> None:
    """Announce the end of a node, and take it away at the deadline, or as soon as it has nothing in hand."""
    command = [RAY, "drain-node", f"--address={cluster.address}", f"--node-id={node.node_id}"]
    command += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=spot"]
    subprocess.run([*command, f"--deadline-remaining-seconds={DEADLINE_S}"], check=True, capture_output=True)
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and not over():
        time.sleep(0.5)
    cluster.remove_node(node, allow_graceful=False)


def test_a_drained_node_finishes_its_blocks_and_no_row_is_done_twice(cluster: Any, tmp_path: Path) -> None:
    (node,) = cluster.worker_nodes
    examples(tmp_path / "in", 200)
    notes = tmp_path / "notes"
    segment = curation(notes)
    for stage in segment.stages[1:3]:
        stage.actors = (3, 3)  # type: ignore[attr-defined]  # spread over both nodes

    def there() -> int:
        return sum(call.node == node.node_id for stage in ("scored", "argue") for call in calls(notes / stage))

    seen: list[tuple[int, float]] = []  # how many calls there were there, and since when

    def idle() -> bool:
        if not seen or there() != seen[-1][0]:
            seen.append((there(), time.monotonic()))
        return time.monotonic() - seen[-1][1] > 5

    with fault(lambda: there() > 10, lambda _: give_notice(cluster, node, idle)):
        segment.run(tmp_path / "work", Rows(tmp_path / "in", ""))
    outcome = settled(tmp_path)
    assert outcome.unharmed
    assert outcome.again == 0
    assert len({call.node for call in calls(notes / "argue")}) == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_training_whose_node_is_drained_resumes_from_the_step_of_the_notice(cluster: Any, tmp_path: Path) -> None:
    (node,) = cluster.worker_nodes
    model = write_model(tmp_path / "base")
    pairs = write_pairs(tmp_path / "pairs" / "data", pair_rows(48), group=20)
    # The next checkpoint by the config is far away: what is resumed from is the one of the notice.
    elastic = config(model, workers=2, min_workers=1, cpus_per_worker=2, max_failures=0, checkpoint_steps=10_000)
    elastic = elastic.model_copy(update={"epochs": 100.0})
    told: list[int] = []

    def notice() -> None:
        while len(done := steps_of(tmp_path / "out")) < 12:
            time.sleep(0.2)
        told.append(done[-1]["step"])
        give_notice(cluster, node, lambda: False)

    watcher = threading.Thread(target=notice, daemon=True)
    watcher.start()
    result = train(elastic, pairs, Run(tmp_path / "out"))
    watcher.join(timeout=60)
    assert result["resumed_from"] >= told[0], "the steps before the notice were done again"
    assert [step["step"] for step in steps_of(tmp_path / "out")] == list(range(1, result["steps"] + 1))
