"""Vary settings on the same pairs. One leaderboard has all trainings, with what they cost."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.core.segment import Step
from pipelines.curation import job as curation
from pipelines.experiments.axes import job
from ray_jobs import curate


def axes(config: Config) -> None:
    """Do what is left: critiqued rows -> OUT/experiments/leaderboard."""
    job.checked(config.train, config.curation, config.trials, config.axes, config.sweep)
    connect(config.ray, config.out_dir)
    curate.benchmark_texts(config)
    rows = curation.run(steps(config), config.run, config.curation)
    job.run(config.run, rows, config.train, config.curation, config.trials, config.axes, config.sweep)


def steps(config: Config) -> list[Step]:
    """Those of curation up to the critiques; `curate` goes on from them."""
    found = curate.build(config.run, config.curation)
    return found[: [one.name for one in found].index("synthesize") + 1]


def describe(config: Config) -> list[str]:
    """What the job would do."""
    lines = job.describe(config.run, config.train, config.curation, config.trials, config.axes, config.sweep)
    return [*curation.describe(steps(config)), *lines]


app = command(axes, describe, __doc__)

if __name__ == "__main__":
    app()
