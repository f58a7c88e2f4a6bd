"""Curate, train, benchmark and report, on one cluster."""

from __future__ import annotations

import time

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.progress import clock, say
from ray_jobs import benchmark, curate, train


def pipeline(config: Config) -> None:
    """Run the three jobs; each skips what is done and resumes what was cut off."""
    from pipelines.engines.models import require
    from pipelines.evaluation.job import prepare
    from pipelines.experiments.one_row import one_row

    start = time.monotonic()
    plan(config)  # every source, benchmark and number is checked before the first minute of work
    require(config.train.model, "train.model")
    prepare(config.run, config.evaluation)
    for name, job in (("curate", curate.curate), ("train", train.train), ("benchmark", benchmark.benchmark)):
        say(f"== {name} ({clock(time.monotonic() - start)})")
        job(config)
    say(one_row(config.run))
    say(f"== done in {clock(time.monotonic() - start)}")


def plan(config: Config) -> list[str]:
    """What the job would do."""
    return [*curate.describe(config), *train.describe(config), *benchmark.describe(config)]


app = command(pipeline, plan, __doc__)

if __name__ == "__main__":
    app()
