"""Sweep job: the paper's grid of trainings (§2.4), compared on held-out pairs."""

from __future__ import annotations

from pipelines.core.cli import command
from pipelines.core.cluster import connect
from pipelines.core.config import Config
from pipelines.experiments.sweep import check, describe, run
from pipelines.training import settings


def sweep(config: Config) -> None:
    """Run the trainings that are not done: OUT/curated/data -> OUT/sweep/{table.csv,sweep.png,best.json}."""
    check(config)
    settings.check(config.train)
    connect(config.ray)
    run(config)


if __name__ == "__main__":
    command(sweep, describe, __doc__ or "")
