"""An elastic training whose node goes away: it continues with fewer workers, and its loss curve is the same."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.run import Run
from pipelines.training.config import TrainConfig
from pipelines.training.train import train
from tests.training.tiny import pair_rows, write_model, write_pairs

pytestmark = pytest.mark.slow


def config(model: Path, **changes: Any) -> TrainConfig:
    values: dict[str, Any] = {"model": str(model), "batch_size": 4, "bin_tokens": 200, "max_length": 256}
    values |= {"learning_rate": 2e-3, "epochs": 8, "precision": "float32", "checkpoint_steps": 5, "trackers": []}
    return TrainConfig.model_validate({**values, **changes})


def steps_of(out: Path) -> list[dict[str, Any]]:
    path = out / "train" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_node_that_leaves_takes_one_worker_and_no_step(strategy: str, own_ray: None, tmp_path: Path) -> None:
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()  # of the modules before
    model = write_model(tmp_path / "base")
    pairs = write_pairs(tmp_path / "pairs" / "data", pair_rows(48), group=20)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 3, "include_dashboard": False})
    node = cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    removed: list[int] = []

    def remove() -> None:
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            if len(done := steps_of(tmp_path / "elastic")) >= 12:
                cluster.remove_node(node)
                removed.append(len(done))
                return
            time.sleep(0.2)

    watcher = threading.Thread(target=remove, daemon=True)
    try:
        train(config(model), pairs, Run(tmp_path / "one"))
        watcher.start()
        elastic = config(model, workers=2, min_workers=1, cpus_per_worker=2, max_failures=3, strategy=strategy)
        result = train(elastic, pairs, Run(tmp_path / "elastic"))
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert removed and removed[0] < 96
    # Twelve steps, a checkpoint every five: the second may have been on its way when the node left.
    assert result["resumed_from"] >= 5 and result["steps"] == 96
    one, two = steps_of(tmp_path / "one"), steps_of(tmp_path / "elastic")
    assert [s["step"] for s in two] == list(range(1, 97))
    assert [s["loss"] for s in two] == pytest.approx([s["loss"] for s in one], rel=2e-3)
