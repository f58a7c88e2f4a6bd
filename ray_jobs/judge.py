"""Judge files of requests, of any size. `judge.input=FILES judge.output=FOLDER`; docs/batch-judge.md."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.judge_job import job


def judge(config: Config) -> None:
    """Run the job, or what is left of it: judge.input -> judge.output."""
    connect(config.ray, config.out_dir)
    job.judge(config.run, config.judge)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return job.describe(config.run, config.judge)


app = command(judge, describe, __doc__)

if __name__ == "__main__":
    app()
