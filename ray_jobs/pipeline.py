"""The main job: curate, train, benchmark and report, one after the other on one cluster."""

from __future__ import annotations

import time

from pipelines.core.cli import command
from pipelines.core.config import Config
from pipelines.core.progress import clock, say
from ray_jobs import benchmark, curate, train


def pipeline(config: Config) -> None:
    """Run the three jobs; each skips what is done and resumes what was cut off."""
    from pipelines.engines.models import require
    from pipelines.evaluation.job import prepare

    start = time.monotonic()
    plan(config)  # every source, benchmark and number is checked before the first minute of work
    require(config.train.model, "train.model")
    prepare(config)
    for name, job in (("curate", curate.curate), ("train", train.train), ("benchmark", benchmark.benchmark)):
        say(f"== {name} ({clock(time.monotonic() - start)})")
        job(config)
    say(f"== done in {clock(time.monotonic() - start)}")


def plan(config: Config) -> list[str]:
    """What the job would do."""
    return [*curate.plan(config), *train.plan(config), *benchmark.describe(config)]


if __name__ == "__main__":
    command(pipeline, plan, __doc__ or "")
