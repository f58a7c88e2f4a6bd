"""Find what training sets share with benchmarks. `--sets FILES...`; the sets without it are written beside the page."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.experiments.leaks import job


def leaks(config: Config) -> None:
    """Do what is left of the comparison: leaks.sets -> OUT/leaks/{report.html,leaks.json,hits.parquet,clean}."""
    job.validate(config.run, config.leaks, config.evaluation.benchmarks)
    connect(config.ray, config.out_dir)
    job.run(config.run, config.leaks, config.evaluation.benchmarks)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return job.describe(config.run, config.leaks, config.evaluation.benchmarks)


app = command(leaks, describe, __doc__, files="leaks.sets")

if __name__ == "__main__":
    app()
