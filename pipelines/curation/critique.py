"""Synthetic critiques: the generator argues for the chosen verdict, then for the rejected one (§2.2)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pipelines.core.determinism import integer
from pipelines.core.records import CACHED, CRITIQUED, Row, filtered
from pipelines.curation.config import CritiqueConfig
from pipelines.engines.llm.ask import Answer, Ask
from pipelines.engines.llm.steps import PromptStep
from pipelines.judging.parse import normalise, parse, strip_label, without_verdict_lines
from pipelines.judging.templates import READS, identity, load, render

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
    lines = without_verdict_lines(strip_label(text)).split("\n")
    kept = [line for line in lines if not _is_verdict(line, allowed)]
    critique = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
    while (
        found := parse(critique, allowed)
    ).verdict is not None:  # one that takes two lines, such as label and verdict
        critique = found.critique
    return critique


def _is_verdict(line: str, allowed: Sequence[str]) -> bool:
    named = _NAMED.match(line)
    return parse(line, allowed).verdict is not None or bool(named and normalise(named["verdict"], allowed))


def spend(row: Row, answer: Answer) -> None:
    """Add to a row what one answer cost."""
    row["synthesis_tokens"] += answer.prompt_tokens + answer.output_tokens
    row["synthesis_prompt_tokens"] += answer.prompt_tokens
    row["synthesis_cached_tokens"] += answer.cached_tokens


class Critique(PromptStep):
    """Write both critiques of a row with the same generator: hard negatives come from an equal (SFR-Judge)."""

    name = "critique"
    reads = (*READS, "row_id", "verdict", "rejected_verdict")
    adds = (*CRITIQUED, *CACHED)

    def __init__(self, config: CritiqueConfig, seed: int) -> None:
        self.config, self.seed = config, seed

    def depends(self) -> dict[str, Any]:
        config = self.config.identity()
        del config["engine"]  # the stage has it
        return {"config": config, "seed": self.seed, "templates": identity("critique")}

    async def run(self, row: Row, ask: Ask) -> None:
        row["generator"] = self.config.engine.model
        row |= {"synthesis_tokens": 0, "synthesis_prompt_tokens": 0, "synthesis_cached_tokens": 0}
        # One after the other: the second prompt finds the first one's prefix in the cache.
        for side, verdict in (("chosen", row["verdict"]), ("rejected", row["rejected_verdict"])):
            critique = await self.write(row, side, verdict, ask)
            if not critique:
                row["status"] = filtered(f"empty_{side}_critique")
                return
            row[f"{side}_critique"] = critique

    def prompt(self, row: Row, verdict: str) -> str:
        """What the generator is asked."""
        return render(load("critique"), row, verdict=verdict)

    async def write(self, row: Row, side: str, verdict: str, ask: Ask, attempt: int = 1) -> str:
        """One critique; empty if the generator wrote nothing but a verdict, or no whole sentence."""
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
        return whole_sentences(critique) if answer.output_tokens >= self.config.max_tokens else critique
