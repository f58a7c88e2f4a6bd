"""Compare base and trained judge by domain and prompt format."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.experiments.transfer import job


def transfer(config: Config) -> None:
    """Do what is left: models -> OUT/experiments/transfer."""
    job.models_of(config.run, config.train, config.transfer)
    connect(config.ray, config.out_dir)
    job.run(config.run, config.train, config.transfer)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return job.describe(config.run, config.train, config.transfer)


app = command(transfer, describe, __doc__)

if __name__ == "__main__":
    app()
