"""The judge whose verdict is always one of the closed set: held to its ending by the engine (verdict_processor.py)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pipelines.core.errors import UserError
from pipelines.core.records import JUDGED, Row
from pipelines.engines import counts
from pipelines.engines.llm.ask import Ask, Closing
from pipelines.engines.llm.reading_along import CritiqueAlong, OnText
from pipelines.engines.llm.steps import PromptStep
from pipelines.judging.parse import strip_label
from pipelines.judging.templates import READS, Template, load, render

# In place of texts, to see what a template writes around them.
_CRITIQUE, _VERDICT = "\x00critique\x00", "\x00verdict\x00"


class ConstrainedJudge(PromptStep):
    """Judge one example, its responses in the order of the row, greedily, in one request that ends with a verdict.

    `parse_status` is `ok`, or `completed` where the model had not come to its verdict and the label was put there.

    Args:
        max_tokens: most tokens of thoughts and critique.
        with_critique: ask for a critique first, else for the verdict alone.
        rubric_last: put the rubric after everything else that is judged.
    """

    name = "judge"
    reads = (*READS, "template")
    adds = tuple(JUDGED)
    closes = True

    def __init__(self, max_tokens: int, *, with_critique: bool = True, rubric_last: bool = False) -> None:
        self.max_tokens, self.with_critique, self.rubric_last = max_tokens, with_critique, rubric_last

    def depends(self) -> dict[str, Any]:
        return {
            "max_tokens": self.max_tokens,
            "constrained": True,
            "with_critique": self.with_critique,
            "rubric_last": self.rubric_last,
        }

    def count(self, rows: Sequence[Row]) -> None:
        counts.judgments(rows)

    async def run(self, row: Row, ask: Ask, on_text: OnText | None = None) -> None:
        """Judge a row, and change it in place.

        Args:
            row: with the columns `reads`.
            ask: an engine.
            on_text: called with each further piece of the critique as it is written.

        Raises:
            RowFailure: the row cannot be judged.
            UserError: the template's answers cannot be held to an ending.
        """
        template, allowed = load(row["template"]), list(row["allowed"] or ())
        prompt = render(template, row, cot=self.with_critique, rubric_last=self.rubric_last)
        along = CritiqueAlong(on_text) if on_text else None
        closing = closing_of(template, allowed) if self.with_critique else alone(template, allowed)
        answer = await ask(
            prompt,
            max_tokens=self.max_tokens if self.with_critique else 0,
            closing=closing,
            on_text=along.hear if along else None,
        )
        assert answer.verdict is not None
        critique = strip_label(closing.before(answer.text, answer.verdict)) if self.with_critique else ""
        if along:
            along.end(critique)
        row["raw"], row["critique"] = answer.text, critique
        row["thoughts"], row["thought_tokens"] = answer.thoughts or None, answer.thought_tokens or None
        row["predicted"], row["parse_status"] = answer.verdict, "completed" if answer.forced else "ok"
        row["verdict_probs"] = list(answer.verdict_probs.items())
        row["latency"] = answer.seconds
        row["prompt_tokens"], row["output_tokens"] = answer.prompt_tokens or None, answer.output_tokens or None


def closing_of(template: Template, allowed: list[str]) -> Closing:
    """How a template's answers end after a critique.

    Raises:
        UserError: nothing stands between critique and verdict that would say where the critique ends.
    """
    return _closing(template.name, template.completion(_VERDICT, _CRITIQUE), tuple(allowed))


def alone(template: Template, allowed: list[str]) -> Closing:
    """A template's answers without a critique."""
    return Closing("", {verdict: template.completion(verdict) for verdict in allowed})


@lru_cache(maxsize=256)
def _closing(name: str, completion: str, allowed: tuple[str, ...]) -> Closing:
    before, _, after = completion.partition(_CRITIQUE)[2].partition(_VERDICT)
    label = before.strip()
    if not label:
        raise UserError(
            "its answers have no label between critique and verdict",
            where=name,
            fix="give the template a `result` label, or ask without a critique",
        )
    ending = before.lstrip()
    separator = before[: len(before) - len(ending)] or "\n"
    return Closing(label, {verdict: f"{ending}{verdict}{after}" for verdict in allowed}, separator)
