"""Turn public judge data into preference pairs. Figure 2 of arXiv 2501.17195."""

from __future__ import annotations

from functools import partial
from typing import TypeVar

from pipelines.cli import command
from pipelines.config import Config
from pipelines.core.cluster import connect
from pipelines.core.run import Run
from pipelines.core.segment import Segment, Step
from pipelines.curation import job
from pipelines.curation.cap import SourceCap
from pipelines.curation.clean import cleaning_stages
from pipelines.curation.config import CurationConfig
from pipelines.curation.conflicts import Conflicts, conflict_filter
from pipelines.curation.consistency import ConsistencyCheck
from pipelines.curation.contrast import Contrast
from pipelines.curation.critique import Critique
from pipelines.curation.decontaminate import Decontaminate, still_clean
from pipelines.curation.duplicates import Duplicates, MarkDuplicates
from pipelines.curation.fit import Fits
from pipelines.curation.ingest import Ingest
from pipelines.curation.mix import Pair
from pipelines.curation.mixture import in_mixture, load_mixture
from pipelines.curation.near_duplicates import NearDuplicates, NotNearDuplicate
from pipelines.curation.publish import Publish
from pipelines.curation.registry import check_years, load_sources
from pipelines.curation.threshold import RewardThreshold
from pipelines.engines.llm.vllm_stage import PromptStage
from pipelines.engines.reward.stage import RewardStage
from pipelines.evaluation.asking.benchmark_texts import texts_file, write_texts

T = TypeVar("T")


def build(run: Run, curation: CurationConfig) -> list[Step]:
    """The paper's Figure 2, top to bottom: each step hands its rows to the next."""
    clean, reward, critique, mix, seed = curation.clean, curation.reward, curation.critique, curation.mix, run.seed
    near, texts, sources = clean.near_duplicates, clean.decontaminate, load_sources(curation.sources)
    check_years(sources, clean.min_year)
    order = [source.name for source in sources]
    prompts, pair = (Critique(critique, seed), ConsistencyCheck(critique, seed)), Pair(mix, seed)
    job.check_names(curation)
    early, late = in_mixture(load_mixture(curation.mixture))
    segment = partial(Segment, rows_per_block=curation.rows_per_block, max_error_share=run.max_error_share)
    return [
        Ingest(run, sources, curation.sample_per_source),
        Duplicates(order),
        *used(near.enabled, NearDuplicates(order, near)),
        Conflicts(),
        segment(
            "prepare",
            [
                MarkDuplicates(Duplicates.file(run.work)),
                *used(near.enabled, NotNearDuplicate(NearDuplicates.file(run.work))),
                *conflict_filter(Conflicts.file(run.work), clean.conflicts),
                *cleaning_stages(clean),
                *used(texts.enabled, Decontaminate(texts_file(run), texts)),
                Contrast(seed),
                *used(reward.enabled, RewardStage(reward.scorer)),
            ],
            id_column="raw_id",
        ),
        segment("select", [*early, *used(reward.enabled, RewardThreshold(reward.thresholds)), Fits(prompts[1], pair)]),
        segment(
            "synthesize",
            [SourceCap(mix.caps, seed), PromptStage("synthesize", critique.engine, prompts)],
            token_columns=["synthesis_tokens"],
        ),
        segment("mix", [*late, pair]),
        Publish(run, curation, sources),
    ]


def used(enabled: bool, part: T) -> list[T]:
    """The part, where it is enabled."""
    return [part] if enabled else []


def curate(config: Config) -> None:
    """Run the job, or what is left of it."""
    connect(config.ray, config.out_dir)
    steps = build(config.run, config.curation)
    benchmark_texts(config)
    job.run(steps, config.run, config.curation)


def benchmark_texts(config: Config) -> None:
    """Write what decontamination compares rows with."""
    if (texts := config.curation.clean.decontaminate).enabled:
        # A benchmark that is added to a finished run locks nothing, if no training row overlaps with it.
        write_texts(
            config.run,
            [*config.evaluation.benchmarks, *own_heldout(config)],
            keep=lambda added: still_clean(config.run, Decontaminate(added, texts)),
        )


def own_heldout(config: Config) -> list[str]:
    """Held-out sets of experiments that are files of the user's; packaged ones are compared with anyway."""
    own = (name for name in config.trials.heldout.benchmarks if name.endswith((".yaml", ".yml")))
    return [name for name in own if name not in config.evaluation.benchmarks]


def describe(config: Config) -> list[str]:
    """What the job would do."""
    return job.describe(build(config.run, config.curation))


app = command(curate, describe, __doc__)

if __name__ == "__main__":
    app()
