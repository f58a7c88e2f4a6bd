"""Refuse, before any trial is run, what no trial could train or measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.records import Row
from pipelines.engines import models
from pipelines.judging.tasks import TASKS


def require_layers(model: str, layers: int | None) -> None:
    """Refuse more layers than the model's config says it has; a model that does not say is left to the trials.

    Args:
        model: by a name that `models.here` knows.
        layers: `trials.layers`.

    Raises:
        UserError: there are fewer.
    """
    if layers is None:
        return
    from transformers import AutoConfig

    try:
        have = AutoConfig.from_pretrained(models.here(model)).get_text_config().num_hidden_layers
    except (OSError, ValueError, AttributeError):  # whoever loads the model says what is wrong with it
        return
    if layers > have:
        raise too_many(have)


def too_many(have: int) -> UserError:
    """The error for more layers than a model has."""
    return UserError(f"the model has {have} layers", where="trials.layers", fix="name fewer, or set null")


def on_this_machine(model: str) -> bool:
    """Whether a model's config can be read at once: a dry run loads nothing from a hub or a store."""
    return model == models.EMBEDDED or storage.exists(Path(model).expanduser() / "config.json")


def require_answers(model: str, asked: Sequence[Row]) -> None:
    """Refuse held-out rows of which two verdicts would be the same tokens.

    Args:
        model: by a name that `models.here` knows.
        asked: the held-out rows.

    Raises:
        UserError: naming the held-out set and its template.
    """
    from pipelines.experiments.trials.questions import Question
    from pipelines.judging.chat import encode_completions
    from pipelines.training.pairs import load_tokenizer

    # Few templates and closed sets, each in many rows.
    sets = {(row["benchmark"], row["template"], tuple(row["completions"])): row for row in asked}
    texts = sorted({text for _, _, completions in sets for text in completions})
    ids = dict(zip(texts, encode_completions(load_tokenizer(model), texts), strict=True))
    for benchmark, template, completions in sets:
        try:
            Question.of([], [ids[text] for text in completions])
        except UserError as mistake:
            where = f"trials.heldout.benchmarks: {benchmark}, template {template}"
            raise UserError(mistake.what, where=where, fix=mistake.fix) from None


def require_measurable(asked: Sequence[Row]) -> None:
    """Refuse held-out sets whose figure, or its interval, is undefined whatever a judge says.

    Args:
        asked: the held-out rows of all sets.

    Raises:
        UserError: naming the first such set, and the reason.
    """
    for name in dict.fromkeys(row["benchmark"] for row in asked):
        if fault := unmeasurable([row for row in asked if row["benchmark"] == name]):
            raise UserError(
                f"nothing can be measured on it: {fault}",
                where=f"trials.heldout.benchmarks: {name}",
                fix="raise trials.heldout.sample or max_tokens, or leave it out",
            )


def unmeasurable(rows: Sequence[Row]) -> str:
    """Why the figure of a set is undefined, whole or without one of its groups; empty where it is not.

    Intervals are the jackknife's: they need the figure without each group in turn.
    """
    groups = np.array([str(row["group_id"]) for row in rows])
    names = sorted({*groups})
    if len(names) < 2:
        return f"its {len(rows)} judgments are one group of rows, and an interval needs two"
    if not TASKS[rows[0]["task"]].scored:
        return ""
    gold = np.array([float(row["gold"]) for row in rows])
    if np.ptp(gold) == 0:
        return f"all its gold scores are {gold[0]:g}, and with a constant nothing correlates"
    for name in names:
        if np.ptp(gold[groups != name]) == 0:
            return f"its gold scores differ in one group of rows alone ({name}), and an interval needs two"
    return ""
