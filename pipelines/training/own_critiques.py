"""The judge's own critiques: the model that is trained answers its prompts, and right answers are kept (`rs_sft`)."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines.core.determinism import integer
from pipelines.core.records import TEXTS, Row, filtered
from pipelines.engines.llm.ask import Answer, Ask
from pipelines.engines.llm.steps import PromptStep
from pipelines.judging.count_tokens import TokenCounter
from pipelines.judging.parse import parse, without_verdict_lines
from pipelines.judging.templates import identity, load
from pipelines.training.config import TrainConfig
from pipelines.training.pairs import is_held_out

# What a sampled row cost and came to; all 0 where nothing was asked.
COUNTS = ("own_asked", "own_right", "own_prompt_tokens", "own_cached_tokens", "own_output_tokens", "own_thought_tokens")


class OwnCritiques(PromptStep):
    """Ask the judge for a critique and a judgment, several times, and keep the answers that come to the row's label.

    A row whose format is the judgment alone is not asked, nor is one that is held out: both stay as they are. Answers
    are asked for in turn, until enough are right: those are as random a choice among the right ones as any, and
    the prompt of each but the first is in the engine's cache.

    Args:
        config: of the training; its `model` is that of the tokenizer.
        seed: of the run.
        round: from 1.
        templates: every template that the rows name.
    """

    name = "own_critiques"
    seeded = True
    reads = ("row_id", "group_id", "prompt", "verdict", "allowed", "template", "format")
    adds = (pa.field("own_completions", TEXTS), *(pa.field(name, pa.int64()) for name in COUNTS))

    def __init__(self, config: TrainConfig, seed: int, round: int, templates: tuple[str, ...]) -> None:
        self.config, self.own, self.seed, self.round = config, config.own_critiques, seed, round
        self.templates = templates

    def depends(self) -> dict[str, Any]:
        from pipelines.engines.models import identity as contents

        sampling = {name: value for name, value in self.own.identity().items() if name not in ("rounds", "start")}
        del sampling["engine"]  # the stage has it
        return {
            **sampling,
            "seed": self.seed,
            "round": self.round,
            "holdout": self.config.holdout,
            "max_length": self.config.max_length,
            "tokenizer": contents(self.config.model),
            "templates": identity(*self.templates),
        }

    async def run(self, row: Row, ask: Ask) -> None:
        row |= {"own_completions": [], **dict.fromkeys(COUNTS, 0)}
        if row["format"] != "cot" or is_held_out(row["group_id"] or row["row_id"], self.config.holdout, self.seed):
            return
        kept: list[str] = row["own_completions"]
        for sample in range(self.own.samples):
            answer = await ask(
                row["prompt"],
                max_tokens=self.own.max_tokens,
                temperature=self.own.temperature,
                top_p=self.own.top_p,
                seed=integer(self.seed, f"own critique, round {self.round}, sample {sample}", row["row_id"]),
            )
            spend(row, answer)
            if (completion := own_completion(row, answer)) is None:
                continue
            row["own_right"] += 1
            if completion not in kept and self.fits(row["prompt"], completion):
                kept.append(completion)
                if len(kept) == self.own.keep:
                    return
        if not kept:
            row["status"] = filtered("too_many_tokens" if row["own_right"] else "no_right_critique")

    def fits(self, prompt: str, completion: str) -> bool:
        """Whether the trainer takes the row: it cuts none."""
        counter = self.counter()
        return counter.prompts([prompt])[0] + counter.completions([completion])[0] <= self.config.max_length

    def counter(self) -> TokenCounter:
        """Of the model's tokens."""
        from pipelines.engines.tokenizer_facts import shared_counter

        return shared_counter(self.config.model)


def own_completion(row: Row, answer: Answer) -> str | None:
    """What to train on of an answer, in the form of the row's template; None if it is not right.

    Right is an answer that ended by itself, whose verdict is the row's, and that has a critique. Like a curated
    critique it says its verdict once, in its place. Thoughts are no part of it.
    """
    if answer.thoughts_cut or not answer.finished:
        return None
    parsed = parse(answer.text, row["allowed"])
    if parsed.verdict != row["verdict"]:
        return None
    critique = without_verdict_lines(parsed.critique, row["allowed"])
    return load(row["template"]).completion(row["verdict"], critique) if critique else None


def spend(row: Row, answer: Answer) -> None:
    """Add to a row what one answer cost."""
    row["own_asked"] += 1
    row["own_prompt_tokens"] += answer.prompt_tokens
    row["own_cached_tokens"] += answer.cached_tokens
    row["own_output_tokens"] += answer.output_tokens
    row["own_thought_tokens"] += answer.thought_tokens
