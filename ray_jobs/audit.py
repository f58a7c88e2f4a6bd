"""Audit the critiques of curated pairs. Measures, a blind checker, and people's answers (`openselene annotate`)."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.experiments.audit import job


def audit(config: Config) -> None:
    """Do what is left of it: OUT/curated/data -> OUT/experiments/audit/{audit.html,audit.json,measures.csv}."""
    job.validate(config.run, config.audit)
    if config.audit.blind:
        connect(config.ray, config.out_dir)
    job.run(config.run, config.audit)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return job.describe(config.run, config.audit)


app = command(audit, describe, __doc__)

if __name__ == "__main__":
    app()
