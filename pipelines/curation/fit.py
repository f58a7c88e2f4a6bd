"""Rows that are too long for a model that has yet to read them: filtered before the first is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from pipelines.core.errors import UserError
from pipelines.core.records import Row, filtered
from pipelines.core.stage import BatchStage
from pipelines.curation.config import CritiqueConfig
from pipelines.curation.consistency import ConsistencyCheck
from pipelines.curation.mix import Pair
from pipelines.engines import models
from pipelines.judging.consistency import answers, most_tokens
from pipelines.judging.count_tokens import TokenCounter
from pipelines.judging.templates import READS

MARGIN = 8  # tokens that a critique may add by how it joins the text around it


class Fits(BatchStage):
    """Filters rows that generator, checker or trainer could not take.

    - generator: the longer of the two critique prompts, and a critique of `critique.max_tokens`, fit its
      `max_model_len`.
    - checker: so do the check's prompts with critiques of that length, and the answer.
    - trainer: prompt and longer completion fit `mix.max_tokens` in the shortest form that the row can have: of both
      formats and all templates of its source, with an empty critique. Whether a row fits with the critique that is
      written for it, `Pair` finds out.

    Args:
        check: the consistency check, which also knows how critiques are asked for.
        pair: how a row becomes a pair.
    """

    name = "fit"
    reads = (*READS, "source", "verdict", "rejected_verdict")

    def __init__(self, check: ConsistencyCheck, pair: Pair) -> None:
        self.check, self.pair = check, pair
        self.config = check.config
        self.room = self.config.engine.max_model_len

    def depends(self) -> dict[str, Any]:
        config = self.config
        return {
            "model": models.identity(config.engine.model),
            "room": self.room,
            "critique": {"max_tokens": config.max_tokens, "template": config.template, "check_mode": config.check_mode},
            "templates": self.check.depends()["templates"] | self.check.critique.depends()["templates"],
            "pair": self.pair.shortest_depends(),
        }

    def apply_batch(self, rows: list[Row]) -> None:
        generator, trainer = self.counter(self.config.engine.model), self.pair.counter()
        for row in rows:
            verdicts = (row["verdict"], row["rejected_verdict"])
            asked = [self.check.critique.prompt(row, verdict) for verdict in verdicts]
            checks = [self.check.question(row, "", verdict) for verdict in verdicts]
            answer = checks[0].max_tokens
            room = self.room - self.config.max_tokens
            if longer(generator, asked, room):
                row["status"] = filtered("too_long_for_generator")
            elif longer(generator, [one.prompt for one in checks], room - answer - MARGIN):
                row["status"] = filtered("too_long_for_checker")
            elif not self._trainable(row, trainer):
                row["status"] = filtered("too_long_for_training")

    def _trainable(self, row: Row, counter: TokenCounter) -> bool:
        """Whether some form of the row fits, if nothing is written for it."""
        most = self.pair.config.max_tokens
        forms = self.pair.shortest(row)
        return any(not longer(counter, [prompt], most - max(counter.completions(ends))) for prompt, ends in forms)

    def counter(self, model: str) -> TokenCounter:
        """Of the model's tokens."""
        from pipelines.engines.tokenizer_facts import shared_counter

        return shared_counter(model)


def longer(counter: TokenCounter, prompts: Sequence[str], room: int) -> bool:
    """Whether one of several prompts has more tokens than `room`. Few are counted: no token has less than a byte."""
    unsure = [prompt for prompt in prompts if len(prompt.encode("utf-8", "replace")) + counter.facts.around > room]
    return bool(unsure) and max(counter.prompts(unsure)) > room


def check_room(config: CritiqueConfig, closed_sets: Iterable[Sequence[str]]) -> None:
    """Refuse an engine in which a critique and a check's answer alone would fill the room for prompt and answer.

    Args:
        config: of the critiques.
        closed_sets: the verdicts of each source.

    Raises:
        UserError: they would.
    """
    room = config.engine.max_model_len
    answer = max(most_tokens(answers(config.check_mode, allowed)) for allowed in closed_sets)
    if config.max_tokens + answer + MARGIN >= room:
        raise UserError(
            f"{config.max_tokens} tokens of a critique leave no room for a prompt in max_model_len {room}",
            where="curation.critique.max_tokens",
            fix="raise curation.critique.engine.max_model_len, or ask for shorter critiques",
        )
