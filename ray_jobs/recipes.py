"""Train recipes on equally many tokens and benchmark them together."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core import step
from pipelines.core.cluster import connect
from pipelines.experiments.recipes import job


def recipes(config: Config) -> None:
    """Do what is left of the comparison: OUT/curated/data -> OUT/recipes/{table.csv,benchmark,<recipe>/model}.

    Raises:
        UserError: curation was stopped before its end.
    """
    job.validate(config.train, config.recipes)
    step.require_whole(config.run.curated, fix="run ray_jobs/curate.py again: it resumes")
    connect(config.ray, config.out_dir)
    job.run(config.run, config.train, config.evaluation, config.recipes)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return job.describe(config.run, config.train, config.evaluation, config.recipes)


app = command(recipes, describe, __doc__)

if __name__ == "__main__":
    app()
