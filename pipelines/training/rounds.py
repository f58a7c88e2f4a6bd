"""Rounds of rejection sampling (`rs_sft`): ask the model, keep what is right, train, and ask the model that comes out.

Each round is a run of its own below OUT/rounds, so that each of its steps is done once and resumes: the segment that
samples, the rows that are kept, and, of all rounds but the last, the training. The last round's training is the run's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pipelines.core import step
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.run import Run
from pipelines.core.segment import Rows, Segment
from pipelines.core.storage import Place
from pipelines.training import kept
from pipelines.training.config import TrainConfig
from pipelines.training.own_critiques import OwnCritiques
from pipelines.training.pairs import COLUMNS, pair_files, pairs_fingerprint

SEGMENT = "own_critiques"
# Columns of curated pairs that are read.
READS = (*COLUMNS, "group_id", "source", "verdict", "allowed", "template", "format")


@dataclass(frozen=True)
class Material:
    """What a training is to be made from.

    Attributes:
        pairs: folder of rows with row_id, prompt, chosen and, unless the recipe is `rs_sft`, rejected.
        made_from: fingerprint of the step that wrote them; None of curated pairs, which are known by content.
        model: the model to start from, where it is not the config's.
    """

    pairs: Place
    made_from: str | None = None
    model: str | None = None


Fit = Callable[[TrainConfig, Material, Run], Any]


def round_of(run: Run, number: int) -> Run:
    """A round as a run of its own.

    Args:
        run: of the whole training.
        number: from 1.
    """
    return replace(run, out=run.rounds / str(number))


def own_rows(config: TrainConfig, pairs: Place, run: Run, fit: Fit) -> Material:
    """Do all rounds but the training of the last, or what is left of them.

    Args:
        config: of the training.
        pairs: folder of curated pairs.
        run: of the training.
        fit: trains on some material.

    Returns:
        What the last round has kept, to be trained on.

    Raises:
        UserError: the pairs are not those of a curation, the model cannot be asked, none of its critiques is right, or
            the run holds the rounds of another config.
    """
    from pipelines.engines.models import everywhere
    from pipelines.engines.tokenizer_facts import require_chat

    own, base = config.own_critiques, everywhere(config.model, "train.model")
    require_chat(base, "train.model", trained=True)
    before = Rows(pairs, fingerprint_of(pairs))
    asked, material = base, None
    for number in range(1, own.rounds + 1):
        if material:
            this = round_of(run, number - 1)
            say(f"round {number - 1} of {own.rounds}: training the model that the next one asks")
            fit(config, material, this)
            asked = str(this.model)
        this = round_of(run, number)
        say(f"round {number} of {own.rounds}: asking {asked}")
        sampled = segment(config.model_copy(update={"model": base}), asked, run, number, pairs).run(this.work, before)
        result = kept.keep(sampled, this, config.holdout)
        start = asked if own.start == "last" else None
        material = Material(this.pairs, result["fingerprint"], start)
        if not any(tally["with_a_right_answer"] for tally in result["sources"].values()):
            raise UserError(
                "no row has a right critique of the model's own",
                where=str(sampled.folder),
                fix="raise train.own_critiques.samples or max_tokens, or take another model",
            )
    assert material is not None
    return material


def segment(config: TrainConfig, asked: str, run: Run, number: int, pairs: Place) -> Segment:
    """The segment in which a round's model answers the prompts. Its engines end with it, before anything is trained."""
    from pipelines.engines.llm.vllm_stage import PromptStage

    own = config.own_critiques
    sampling = OwnCritiques(config, run.seed, number, kept.templates_in(pairs))
    return Segment(
        SEGMENT,
        [PromptStage(SEGMENT, own.engine.model_copy(update={"model": asked}), [sampling])],
        rows_per_block=own.rows_per_block,
        max_error_share=run.max_error_share,
        token_columns=["own_prompt_tokens", "own_output_tokens"],
    )


def fingerprint_of(pairs: Place) -> str:
    """Of all that is read of the pairs.

    Raises:
        UserError: a column is missing: they are not those of a curation.
    """
    try:
        pair_files(pairs, (*READS, "status"))
    except UserError as refused:
        if not refused.what.startswith("missing column"):
            raise
        fix = "train.recipe: rs_sft asks for critiques again, for which it needs the pairs of ray_jobs/curate.py"
        raise UserError(refused.what, where=refused.where, fix=fix) from None
    return pairs_fingerprint(pairs, READS)


@dataclass(frozen=True)
class Cost:
    """What the rounds took beside the last training.

    Attributes:
        answers: that were asked for, and of these `right` ones.
        prompt_tokens: read, `cached_tokens` of them from the cache.
        output_tokens: written, thoughts included.
        seconds: of the sampling. Where a segment was resumed, of its last attempt, and `resumed` is true.
        trained_tokens: of the sequences of the models between, in each epoch.
        training_seconds: of these models.
    """

    answers: int = 0
    right: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    resumed: bool = False
    trained_tokens: int = 0
    training_seconds: float = 0.0


def cost_of(run: Run, rounds: int) -> Cost:
    """The cost of finished rounds, from what their steps have noted."""
    found = Cost()
    for number in range(1, rounds + 1):
        this = round_of(run, number)
        sampled, kept_rows = (step.result_of(folder) or {} for folder in (this.work / SEGMENT, this.curated))
        tallies = list(kept_rows["sources"].values())
        trained = step.result_of(this.training) or {} if number < rounds else {}
        found = Cost(
            answers=found.answers + sum(one["own_asked"] for one in tallies),
            right=found.right + sum(one["own_right"] for one in tallies),
            prompt_tokens=found.prompt_tokens + sum(one["own_prompt_tokens"] for one in tallies),
            cached_tokens=found.cached_tokens + sum(one["own_cached_tokens"] for one in tallies),
            output_tokens=found.output_tokens + sum(one["own_output_tokens"] for one in tallies),
            seconds=found.seconds + sampled["seconds"],
            resumed=found.resumed or bool(sampled["resumed_from"]),
            trained_tokens=found.trained_tokens + trained.get("tokens", 0),
            training_seconds=found.training_seconds + trained.get("seconds", 0.0),
        )
    return found
