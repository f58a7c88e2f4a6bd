"""Curation job: public judge data in, preference pairs out (Figure 2 of arXiv 2501.17195)."""

from __future__ import annotations

from pipelines.core.cli import command
from pipelines.core.cluster import connect
from pipelines.core.config import Config
from pipelines.curation.clean import cleaning_stages
from pipelines.curation.consistency import ConsistencyCheck
from pipelines.curation.contrast import Contrast
from pipelines.curation.critique import Critique
from pipelines.curation.decontaminate import Decontaminate
from pipelines.curation.job import Segments, describe, duplicates_file, near_duplicates_file, run, work_folder
from pipelines.curation.mix import Pair, SourceCap
from pipelines.curation.near_duplicates import NotNearDuplicate
from pipelines.curation.threshold import RewardThreshold
from pipelines.engines.reward import RewardStage
from pipelines.engines.vllm_stage import PromptStage
from pipelines.evaluation.prompts import prompts_file, write_prompts


def figure_2(config: Config) -> Segments:
    """The paper's Figure 2, top to bottom."""
    curation, seed, work = config.curation, config.seed, work_folder(config)
    clean, scored = curation.clean, work / "prepare" / "rows"
    return {
        "prepare": [
            *cleaning_stages(curation.clean, duplicates_file(config)),
            *([NotNearDuplicate(near_duplicates_file(config))] if clean.near_duplicates.enabled else []),
            *([Decontaminate(prompts_file(config), clean.decontaminate.ngram)] if clean.decontaminate.enabled else []),
            Contrast(seed),
            *([RewardStage(curation.reward)] if curation.reward.enabled else []),
        ],
        "synthesize": [
            *([RewardThreshold(curation.reward.thresholds, scored)] if curation.reward.enabled else []),
            PromptStage(
                "synthesize",
                curation.critique.engine,
                [Critique(curation.critique, seed), ConsistencyCheck(curation.critique, seed)],
            ),
        ],
        "mix": [
            SourceCap(curation.mix.caps, work / "synthesize" / "rows", seed),
            Pair(curation.mix, seed),
        ],
    }


def curate(config: Config) -> None:
    """Run the job, or what is left of it."""
    connect(config.ray)
    prompts = write_prompts(config) if config.curation.clean.decontaminate.enabled else None
    run(config, figure_2(config), depends={"prepare": {"prompts": prompts}})


def plan(config: Config) -> list[str]:
    """What the job would do."""
    return describe(config, figure_2(config))


if __name__ == "__main__":
    command(curate, plan, __doc__ or "")
