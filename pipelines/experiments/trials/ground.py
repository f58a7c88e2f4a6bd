"""Lay the ground for trials: pool, held-out rows, and the settings that all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.records import OK, Row
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.curation.config import CurationConfig
from pipelines.evaluation.scoring.figures import plain
from pipelines.experiments.trials.checks import on_this_machine, require_answers, require_layers
from pipelines.experiments.trials.config import TrialsConfig
from pipelines.experiments.trials.heldout import write_heldout
from pipelines.experiments.trials.pool import write_pool
from pipelines.experiments.trials.worker import Ground
from pipelines.training import settings
from pipelines.training.config import TrainConfig

WHERE = "trials"


def training_of(train: TrainConfig, trials: TrialsConfig, changes: Mapping[str, Any] | None = None) -> TrainConfig:
    """The training of a trial.

    Raises:
        UserError: a key is unknown, or the training is none that one process can do.
    """
    from pydantic import ValidationError

    own = {"holdout": 0.0, "trackers": [], "reference": None}
    try:
        config = TrainConfig.model_validate({**train.model_dump(), **own, **trials.train, **(changes or {})})
    except ValidationError as exc:
        first = exc.errors()[0]
        raise UserError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}", where=f"{WHERE}.train", fix="as in the section train"
        ) from None
    settings.validate(config)
    for fault, fix in (
        (config.engine != "shared" and "engine 'trl'", "engine: shared"),
        (config.recipe != "dpo_nll" and f"recipe '{config.recipe}'", "recipe: dpo_nll"),
        (config.workers > 1 and f"{config.workers} workers", "workers: 1, and lora for a large model"),
        (config.deepspeed and "DeepSpeed", "deepspeed: null"),
        (config.holdout and "held-out pairs of its own", "holdout: 0"),
    ):
        if fault:
            raise UserError(
                f"a trial is one process that trains on pairs, not with {fault}", where="trials.train", fix=fix
            )
    return config


def validate(train: TrainConfig, curation: CurationConfig, trials: TrialsConfig) -> None:
    """Refuse trials that could not be run or told apart.

    Raises:
        UserError: naming the key.
    """
    config = training_of(train, trials)
    if len(set(trials.seeds)) < len(trials.seeds):
        raise UserError(f"a seed comes twice: {trials.seeds}", where="trials.seeds")
    if trials.pairs > trials.pool:
        fix = "raise trials.pool, or lower trials.pairs"
        raise UserError(f"{trials.pairs} pairs cannot be taken from {trials.pool} rows", where="trials.pairs", fix=fix)
    longest = max(curation.mix.max_tokens, trials.heldout.max_tokens)
    if longest > config.max_length:
        raise UserError(
            f"curation.mix.max_tokens and trials.heldout.max_tokens allow {longest} tokens, train.max_length "
            f"{config.max_length}",
            where="train.max_length",
            fix="raise it, or lower them",
        )
    if trials.judge == "model" and on_this_machine(config.model):
        require_layers(config.model, trials.layers)


def lay(run: Run, before: Rows, train: TrainConfig, curation: CurationConfig, trials: TrialsConfig) -> Ground:
    """Write pool and held-out rows, or read them, and say what all trials share.

    Args:
        run: gets `experiments/`.
        before: the rows of curation that are cleaned, contrasted and scored.
        train: the training that trials change in part.
        curation: templates and limits.
        trials: the trials.

    Raises:
        UserError: as `validate`, or a benchmark or model is not usable.
    """
    validate(train, curation, trials)
    pool = write_pool(before, run.experiments / "work", curation, trials.pool, run.seed, run.max_error_share)
    return lay_on(run, in_order(pool), pool.fingerprint, train, curation, trials)


def lay_on(
    run: Run,
    pairs: list[Row],
    fingerprint: str,
    train: TrainConfig,
    curation: CurationConfig,
    trials: TrialsConfig,
) -> Ground:
    """The same on pairs that are there.

    Args:
        run: gets `experiments/`.
        pairs: by id.
        fingerprint: of all that they depend on.
        train: the training that trials change in part.
        curation: templates.
        trials: the trials.

    Raises:
        UserError: as `training_of`, a benchmark or model is not usable, or nothing can be measured on a benchmark.
    """
    from pipelines.engines.models import everywhere, identity

    config = training_of(train, trials)
    model = everywhere(config.model, "train.model")
    templates = {task: one for task, one in curation.mix.templates.items() if isinstance(one, str)}
    templates = {task: templates[task] for task in ("pairwise", "absolute", "classification") if task in templates}
    heldout = write_heldout(run, trials.heldout, templates, curation.mix.tokenizer)
    asked: list[Row] = storage.read_table(heldout.folder).to_pylist()
    stand_in = trials.judge == "stand_in"
    if not stand_in:
        require_layers(model, trials.layers)
        require_answers(model, asked)
    depends = {
        "pool": fingerprint,
        "heldout": heldout.fingerprint,
        "layers": trials.layers,
        "judge": trials.judge,
        "train": plain({**config.identity(), "precision": settings.precision(config)}),
        "model": None if stand_in else identity(model),
    }
    return Ground(
        folder=run.experiments,
        fingerprint=step.fingerprint(depends),
        config=config,
        model=model,
        layers=trials.layers,
        pairs=pairs,
        asked=asked,
        stand_in=stand_in,
    )


def in_order(pool: Rows) -> list[Row]:
    """The pairs of the pool, by id, whatever order they were written in."""
    rows: list[Row] = storage.read_table(pool.folder).to_pylist()
    return sorted((row for row in rows if row["status"] == OK), key=lambda row: str(row["row_id"]))


def by_source(ground: Ground, sources: list[str]) -> dict[str, list[Row]]:
    """Source -> its pairs in the pool, in the config's order."""
    return {source: [row for row in ground.pairs if row["source"] == source] for source in sources}
