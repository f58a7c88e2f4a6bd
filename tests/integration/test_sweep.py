"""A grid of real trainings through Ray Tune: one reference for all, the best by held-out accuracy, resumed for free."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Config
from pipelines.experiments.sweep import job as sweep
from tests.training.tiny import pair_rows, write_model, write_pairs

pytestmark = pytest.mark.usefixtures("plain_ray")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    out = tmp_path_factory.mktemp("sweep")
    write_pairs(out / "curated" / "data", pair_rows(48), group=20)
    train: dict[str, Any] = {"model": str(write_model(out / "base")), "batch_size": 8, "bin_tokens": 300}
    train |= {
        "max_length": 256,
        "precision": "float32",
        "holdout": 0.25,
        "epochs": 4,
        "checkpoint_steps": 6,
        "trackers": [],
    }
    grid = {"learning_rate": [1e-9, 5e-3], "alpha": [1.0], "weight_decay": [0.1], "concurrent": 2}
    return Config.model_validate(
        {"out_dir": out, "curation": {"sources": []}, "evaluation": {"benchmarks": []}, "train": train, "sweep": grid}
    )


def test_a_grid_is_trained_compared_and_not_trained_again(config: Config) -> None:
    folder = sweep.run(config.run, config.train, config.sweep)
    best = json.loads((folder / "best.json").read_text())
    assert (Path(best["model"]) / "model.safetensors").exists()
    rows = {row["trial"]: row for row in csv.DictReader((folder / "table.csv").open())}
    assert len(rows) == 2 and best["trial"] == next(iter(rows))
    assert best["heldout_accuracy"] == max(float(row["heldout_accuracy"]) for row in rows.values())
    # The smaller learning rate leaves the model as it was, the larger one learns what a judgment looks like.
    losses = {name: float(row["heldout_loss_nll"]) for name, row in rows.items()}
    assert losses["lr0.005-alpha1-wd0.1"] < losses["lr1e-09-alpha1-wd0.1"] - 0.1
    reference = (config.run.reference / "done.json").stat().st_mtime_ns
    models = [path.stat().st_mtime_ns for path in sorted(folder.glob("*/model/model.safetensors"))]
    sweep.run(config.run, config.train, config.sweep)
    assert [path.stat().st_mtime_ns for path in sorted(folder.glob("*/model/model.safetensors"))] == models
    assert (config.run.reference / "done.json").stat().st_mtime_ns == reference


@pytest.mark.slow
def test_asha_takes_the_same_road(config: Config, tmp_path: Path) -> None:
    write_pairs(tmp_path / "curated" / "data", pair_rows(48), group=20)
    changed = config.model_copy(
        update={"out_dir": tmp_path, "sweep": config.sweep.model_copy(update={"asha": True, "concurrent": 1})}
    )
    rows = list(csv.DictReader((sweep.run(changed.run, changed.train, changed.sweep) / "table.csv").open()))
    assert len(rows) == 2 and any(row["whole"] == "True" for row in rows)
