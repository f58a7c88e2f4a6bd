"""Compare judged systems by a few labels of people. Means and a ranking with intervals, or why there can be none."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.experiments.calibrate import job


def calibrate(config: Config) -> None:
    """Do what is left of it: calibrate.input -> OUT/experiments/calibrate/{calibrate.html,calibrate.json}."""
    job.validate(config.calibrate)
    if config.calibrate.coverage.draws:
        connect(config.ray, config.out_dir)
    job.run(config.run, config.calibrate)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return job.describe(config.run, config.calibrate)


app = command(calibrate, describe, __doc__, files="calibrate.input")

if __name__ == "__main__":
    app()
