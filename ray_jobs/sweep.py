"""Train the paper's grid (§2.4) and compare on held-out pairs."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.experiments.sweep import job


def sweep(config: Config) -> None:
    """Run the trainings that are not done: OUT/curated/data -> OUT/sweep/{table.csv,sweep.png,best.json}."""
    job.validate(config.train, config.sweep)
    connect(config.ray, config.out_dir)
    job.run(config.run, config.train, config.sweep)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return job.describe(config.train, config.sweep)


app = command(sweep, describe, __doc__)

if __name__ == "__main__":
    app()
