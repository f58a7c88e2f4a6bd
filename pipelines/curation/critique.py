"""Synthetic critiques: the generator argues for the chosen verdict, then for the rejected one (§2.2)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from pipelines.core.determinism import integer
from pipelines.core.errors import UserError
from pipelines.core.records import CACHED, CRITIQUED, Row, filtered
from pipelines.curation.config import CritiqueConfig
from pipelines.engines.llm.ask import Answer, Ask
from pipelines.engines.llm.steps import PromptStep
from pipelines.judging.parse import strip_label, without_verdict_lines
from pipelines.judging.tasks import TASKS
from pipelines.judging.templates import READS, identity, load, render, sample
from pipelines.judging.verdict import read_verdict

# A line that names the verdict, whether or not the parser would read it: a judge is to say it once, in its place.
_NAMED = re.compile(
    r"^\W*(?:(?:my|the|final|overall)\s+)*(?:result|verdict|judge?ment|decision|score|rating|answer|choice|winner)"
    r"\b[\s*_]*(?::|=|(?<!answer )is\b)[\s*_]*(?P<verdict>.+)$",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*(?=\s|$)")


def whole_sentences(text: str) -> str:
    """The text up to its last sentence end; empty if there is none.

    For a critique that the token limit cut: a judge trained on sentences without an end does not learn to stop.
    """
    ends = list(_SENTENCE_END.finditer(text))
    return text[: ends[-1].end()] if ends else ""


def without_verdicts(text: str, allowed: Sequence[str]) -> str:
    """What the generator wrote, without its label and without anything that is, or would be read as, a verdict.

    The completion ends with the verdict: a second one in the critique would teach a judge to say it early, and another
    one to contradict itself.
    """
    kept = [line for line in strip_label(text).split("\n") if not _names_verdict(line, allowed)]
    return without_verdict_lines("\n".join(kept), allowed)


def _names_verdict(line: str, allowed: Sequence[str]) -> bool:
    named = _NAMED.match(line)
    return bool(named and read_verdict(named["verdict"], allowed))


def spend(row: Row, answer: Answer) -> None:
    """Add to a row what one answer cost."""
    row["synthesis_tokens"] += answer.prompt_tokens + answer.output_tokens
    row["synthesis_prompt_tokens"] += answer.prompt_tokens
    row["synthesis_cached_tokens"] += answer.cached_tokens
    row["thought_tokens"] += answer.thought_tokens


def check_template(name: str, tasks: Collection[str]) -> None:
    """Check the template of `curation.critique` against the tasks of the sources that are read.

    Raises:
        UserError: it is unknown or not well formed, of another task, or does not say for which verdict to argue.
    """
    template, where = load(name), "curation.critique.template"
    for task in tasks:
        if template.task not in ("any", task):
            raise UserError(f"the template '{name}' is for {template.task} rows, not for {task}", where=where)
        asked = {render(template, sample(task), verdict=verdict) for verdict in TASKS[task].verdicts}
        if len(asked) < len(TASKS[task].verdicts):
            fix = "name it with `statement` or `verdict`, or use critique"
            raise UserError(f"the template '{name}' does not say which verdict to argue for", where=where, fix=fix)


class Draft(NamedTuple):
    """A critique, what the generator thought before it, and whether it was cut off while it thought."""

    critique: str
    thoughts: str | None
    cut: bool


class Critique(PromptStep):
    """Write both critiques of a row with the same generator: hard negatives come from an equal (SFR-Judge)."""

    name = "critique"
    reads = (*READS, "row_id", "verdict", "rejected_verdict")
    adds = (*CRITIQUED, *CACHED)

    def __init__(self, config: CritiqueConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.seeded = config.temperature > 0

    def depends(self) -> dict[str, Any]:
        config = self.config.identity()
        del config["engine"]  # the stage has it
        return {"config": config, "seed": self.seed, "templates": identity(self.config.template)}

    async def run(self, row: Row, ask: Ask) -> None:
        row["generator"] = self.config.engine.model
        row |= {"synthesis_tokens": 0, "synthesis_prompt_tokens": 0, "synthesis_cached_tokens": 0, "thought_tokens": 0}
        # One after the other: the second prompt finds the first one's prefix in the cache.
        for side, verdict in (("chosen", row["verdict"]), ("rejected", row["rejected_verdict"])):
            critique, thoughts, cut = await self.write(row, side, verdict, ask)
            row[f"{side}_thoughts"] = thoughts
            if not critique:
                row["status"] = filtered(f"unfinished_{side}_thoughts" if cut else f"empty_{side}_critique")
                return
            row[f"{side}_critique"] = critique

    def prompt(self, row: Row, verdict: str) -> str:
        """What the generator is asked."""
        return render(load(self.config.template), row, verdict=verdict)

    async def write(self, row: Row, side: str, verdict: str, ask: Ask, attempt: int = 1) -> Draft:
        """One critique; empty if the generator wrote nothing but thoughts or a verdict, or no whole sentence."""
        purpose = f"{side}_critique" if attempt == 1 else f"{side}_critique, attempt {attempt}"
        answer = await ask(
            self.prompt(row, verdict),
            max_tokens=self.config.max_tokens,
            temperature=self.config.temperature if attempt == 1 else self.config.retry_temperature,
            top_p=self.config.top_p,
            seed=integer(self.seed, purpose, row["row_id"]),
        )
        spend(row, answer)
        critique = without_verdicts(answer.text, row["allowed"])
        critique = critique if answer.finished else whole_sentences(critique)
        return Draft(critique, answer.thoughts or None, answer.thoughts_cut)
