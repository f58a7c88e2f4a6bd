"""Data map: a page, a picture and a table of what the curated set is about (Figure 4 of arXiv 2501.17195)."""

from __future__ import annotations

from pipelines.core.cli import command
from pipelines.core.cluster import connect
from pipelines.core.config import Config
from pipelines.experiments.data_map import check, describe, run


def data_map(config: Config) -> None:
    """Make the map, or what is left of it: OUT/curated/data -> OUT/curated/map.{html,png,parquet}."""
    check(config)
    connect(config.ray)
    run(config)


if __name__ == "__main__":
    command(data_map, describe, __doc__ or "")
