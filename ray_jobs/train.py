"""Fine-tune the judge on curated pairs with DPO+NLL. §2.4 of arXiv 2501.17195."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core import step
from pipelines.core.cluster import connect
from pipelines.training import settings


def train(config: Config) -> None:
    """Run the job, or what is left of it: OUT/curated/data -> OUT/model.

    Raises:
        UserError: curation was stopped before its end. Pairs that no curation wrote are taken as they are.
    """
    from pipelines.training.train import train as fit

    step.require_whole(config.run.curated, fix="run ray_jobs/curate.py again: it resumes")
    connect(config.ray, config.out_dir)
    fit(config.train, config.run.pairs, config.run)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return settings.describe(config.train, config.run)


app = command(train, describe, __doc__)

if __name__ == "__main__":
    app()
