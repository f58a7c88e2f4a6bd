"""Map what the curated set is about. Figure 4 of arXiv 2501.17195."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.experiments.data_map import job


def data_map(config: Config) -> None:
    """Make the map, or what is left of it: OUT/curated/data -> OUT/curated/map.{html,png,parquet}."""
    job.validate(config.run)
    connect(config.ray, config.out_dir)
    job.run(config.run, config.data_map)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return job.describe(config.run, config.data_map)


app = command(data_map, describe, __doc__)

if __name__ == "__main__":
    app()
