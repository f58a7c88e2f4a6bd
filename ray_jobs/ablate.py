"""Choose sources by what training on them gains. The mixture file follows (§2.3, Figure 6)."""

from __future__ import annotations

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.core.segment import Step
from pipelines.curation import job as curation
from pipelines.experiments.ablation import job
from ray_jobs import curate


def ablate(config: Config) -> None:
    """Do what is left: sources -> OUT/experiments/{mixture.yaml,index.html,ablation,reward-filter}."""
    job.validate(config.train, config.curation, config.trials, config.ablation)
    connect(config.ray, config.out_dir)
    curate.benchmark_texts(config)
    rows = curation.run(steps(config), config.run, config.curation)
    job.run(
        config.run,
        rows,
        config.train,
        config.curation,
        config.trials,
        config.ablation,
        config.evaluation.benchmarks,
    )


def steps(config: Config) -> list[Step]:
    """Those of curation whose rows trials take; `curate` goes on from them."""
    found = curate.build(config.run, config.curation)
    last = "synthesize" if job.needs_critiques(config.ablation) else "prepare"
    return found[: [one.name for one in found].index(last) + 1]


def describe(config: Config) -> list[str]:
    """What the job would do."""
    lines = job.describe(config.run, config.train, config.curation, config.trials, config.ablation)
    return [*curation.describe(steps(config)), *lines]


app = command(ablate, describe, __doc__)

if __name__ == "__main__":
    app()
