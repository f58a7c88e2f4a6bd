"""Rows that do not fit a judge's context: known before its engine starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.core.errors import RowFailure
from pipelines.core.records import Row, filtered
from pipelines.core.stage import BatchStage
from pipelines.engines import models
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.ask import TOO_LONG
from pipelines.engines.llm.judge import JudgeFormat
from pipelines.judging.count_tokens import TokenCounter
from pipelines.judging.templates import READS, load, render


class FitsJudge(BatchStage):
    """Filters rows whose prompt and answer have more tokens than the judge's context.

    Args:
        engine: of the judge: its model and `max_model_len`.
        max_tokens: of an answer.
        format: what the judge is asked for.
        closing: whether the answer's verdict line comes after `max_tokens` of critique, as the engine's own ending.
    """

    name = "fits"
    reads = (*READS, "template")
    num_cpus = 0.25

    def __init__(self, engine: EngineConfig, max_tokens: int, format: JudgeFormat, *, closing: bool = False) -> None:
        self.model, self.room, self.max_tokens, self.format = engine.model, engine.max_model_len, max_tokens, format
        self.closing = closing

    def depends(self) -> dict[str, Any]:
        asked: dict[str, Any] = {"max_tokens": self.max_tokens, "format": self.format}
        if self.closing:
            asked["closing"] = True
        return {"model": models.identity(self.model), "room": self.room, **asked}

    def apply_batch(self, rows: list[Row]) -> None:
        for row, needed in zip(rows, self.needed(rows), strict=True):
            if needed > self.room:
                row["status"] = filtered(TOO_LONG)

    def needed(self, rows: Sequence[Row]) -> Iterator[int]:
        """Tokens of prompt and answer of each row, or fewer where they surely fit; 0 of a row that makes no prompt."""
        counter = self.counter()
        for row in rows:
            template = load(row["template"])
            try:
                prompt = render(template, row, cot=self.format == "cot")
            except RowFailure:  # the judge will say why
                yield 0
                continue
            answer = self.max_tokens
            if self.closing or self.format == "one_token":
                ending = max(counter.texts([template.completion(verdict) for verdict in row["allowed"]]))
                answer = ending + (self.max_tokens if self.format == "cot" else 0)
            # No token has less than a byte, so most prompts need not be counted.
            most = len(prompt.encode("utf-8", "replace")) + counter.facts.around + answer
            yield most if most <= self.room else counter.prompts([prompt])[0] + answer

    def counter(self) -> TokenCounter:
        """Of the judge's tokens."""
        from pipelines.engines.tokenizer_facts import shared_counter

        return shared_counter(self.model)
