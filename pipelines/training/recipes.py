"""The two recipes: DPO+NLL on pairs (§2.4), and NLL on the judge's own right critiques (`rs_sft`)."""

from __future__ import annotations

from typing import Any

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.training.config import TrainConfig

# Keys that a recipe does not look at: no result depends on them.
UNUSED = {
    "dpo_nll": ("own_critiques",),
    "rs_sft": ("alpha", "beta", "label_smoothing", "precompute_reference"),
}
# What is logged of pairs, and means nothing without a rejected completion.
OF_PAIRS = (
    "loss_dpo",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/rejected",
)


def validate(config: TrainConfig) -> None:
    """Refuse settings with which the recipe cannot be followed.

    Raises:
        UserError: naming the keys.
    """
    if config.recipe == "dpo_nll":
        return
    if config.engine == "trl":
        raise UserError(
            "engine 'trl' trains on pairs only", where="train.recipe", fix="use shared, or the recipe dpo_nll"
        )
    own = config.own_critiques
    if own.keep > own.samples:
        raise UserError(
            f"keep {own.keep} is more than samples {own.samples}", where="train.own_critiques", fix="raise samples"
        )
    if own.max_tokens >= own.engine.max_model_len:
        raise UserError(
            f"an answer of {own.max_tokens} tokens leaves no room for a prompt in {own.engine.max_model_len}",
            where="train.own_critiques.engine.max_model_len",
            fix="raise it, or lower train.own_critiques.max_tokens",
        )


def identity(config: TrainConfig) -> dict[str, Any]:
    """The values that a trained model depends on: those the recipe looks at."""
    return {name: value for name, value in config.identity().items() if name not in UNUSED[config.recipe]}


def settled(config: TrainConfig) -> TrainConfig:
    """The config as the loss takes it: the NLL, where it stands alone, has the weight 1."""
    return config if config.recipe == "dpo_nll" else config.model_copy(update={"alpha": 1.0})


def unlogged(config: TrainConfig) -> tuple[str, ...]:
    """Names of the log that the recipe has no values for."""
    return () if config.recipe == "dpo_nll" else OF_PAIRS


def loss(config: TrainConfig) -> str:
    """The loss, in words."""
    return f"alpha {config.alpha}, beta {config.beta}" if config.recipe == "dpo_nll" else f"NLL by {config.nll}"


def describe(config: TrainConfig, run: Run) -> list[str]:
    """What a recipe does before its training, line by line, for `--dry-run`."""
    own = config.own_critiques
    if config.recipe == "dpo_nll":
        return []
    return [
        f"  {own.rounds} round(s) of rejection sampling: up to {own.samples} answers to each prompt for a critique, "
        f"{own.keep} of those that are right kept -> {run.rounds}"
    ]
