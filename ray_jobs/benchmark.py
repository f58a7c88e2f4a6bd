"""Benchmark job: base and trained judge on every benchmark of the config, with intervals and a report (§3)."""

from __future__ import annotations

from pipelines.core.cli import command
from pipelines.core.cluster import connect
from pipelines.core.config import Config
from pipelines.evaluation.job import describe, run


def benchmark(config: Config) -> None:
    """Run the job, or what is left of it: OUT/model -> OUT/benchmark."""
    connect(config.ray)
    run(config)


if __name__ == "__main__":
    command(benchmark, describe, __doc__ or "")
