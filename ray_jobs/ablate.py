"""Find out which sources help a judge, and which rows of them; write the mixture that follows. §2.3, Figure 6."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.core.segment import Rows
from pipelines.curation import job as curation
from pipelines.experiments.ablation import job
from ray_jobs import curate


def ablate(config: Config) -> None:
    """Do what is left: sources -> OUT/experiments/{mixture.yaml,index.html,ablation,reward-filter}."""
    job.validate(config.train, config.curation, config.trials, config.ablation)
    connect(config.ray, config.out_dir)
    rows = prepared(config, "synthesize" if job.needs_critiques(config.ablation) else "prepare")
    job.run(
        config.run,
        rows,
        config.train,
        config.curation,
        config.trials,
        config.ablation,
        config.evaluation.benchmarks,
    )


def prepared(config: Config, last: str) -> Rows:
    """The rows of curation up to one of its steps: the same that `curate` goes on from."""
    curate.benchmark_texts(config)
    steps = curate.build(config.run, config.curation)
    names = [one.name for one in steps]
    return curation.run(steps[: names.index(last) + 1], config.run, config.curation)


def describe(config: Config) -> list[str]:
    """What the job would do."""
    lines = job.describe(config.run, config.train, config.curation, config.trials, config.ablation)
    return [*curate.describe(config)[:-1], *lines]


app = command(ablate, describe, __doc__)

if __name__ == "__main__":
    app()
