"""Compare judges on benchmarks and write the report. §3 of arXiv 2501.17195."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.evaluation import job


def benchmark(config: Config) -> None:
    """Run the job, or what is left of it: OUT/model -> OUT/benchmark."""
    connect(config.ray, config.out_dir)
    job.evaluate(config.run, config.evaluation, config.train.model)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return job.describe(config.run, config.evaluation, config.train.model)


app = command(benchmark, describe, __doc__)

if __name__ == "__main__":
    app()
