"""The judge: render the prompt, ask, parse the answer. One judgment a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from scipy.special import softmax

from pipelines.core.records import JUDGED, Row
from pipelines.engines.llm.ask import Answer, Ask
from pipelines.engines.llm.steps import PromptStep
from pipelines.judging.parse import parse
from pipelines.judging.templates import READS, load, render
from pipelines.judging.verdict import normalise

JudgeFormat = Literal["cot", "judgment_only", "one_token"]
TOP = 10  # log-probabilities kept per token: enough for any closed set of verdicts here


class Judge(PromptStep):
    """Judge one example, its responses in the order of the row, greedily."""

    name = "judge"
    reads = (*READS, "template")
    adds = tuple(JUDGED)

    def __init__(self, max_tokens: int, format: JudgeFormat = "cot") -> None:
        self.max_tokens, self.format = max_tokens, format

    def depends(self) -> dict[str, Any]:
        return {"max_tokens": self.max_tokens, "format": self.format}

    async def run(self, row: Row, ask: Ask) -> None:
        template, allowed = load(row["template"]), row["allowed"]
        prompt = render(template, row, cot=self.format == "cot")
        if self.format == "one_token":
            answers = [template.completion(verdict) for verdict in allowed]
            answer = await ask(prompt, max_tokens=1, rank_choices=answers)
            shares = softmax([answer.top[0][text] for text in answers]).tolist()
            probs = dict(zip(allowed, shares, strict=True))
            parsed = parse(answer.text, allowed)
        else:
            answer = await ask(prompt, max_tokens=self.max_tokens, logprobs=TOP)
            parsed = parse(answer.text, allowed)
            probs = verdict_probs(answer, parsed.verdict, allowed)
        row["raw"], row["critique"] = answer.text, parsed.critique
        row["predicted"], row["parse_status"] = parsed.verdict, parsed.status
        row["verdict_probs"] = list(probs.items())
        row["latency"] = answer.seconds
        # 0 means that an endpoint does not report them.
        row["prompt_tokens"], row["output_tokens"] = answer.prompt_tokens or None, answer.output_tokens or None


def verdict_probs(answer: Answer, verdict: str | None, allowed: Sequence[str]) -> dict[str, float]:
    """Probability of each allowed verdict at the verdict token, normalised over the closed set.

    The verdict token is the last position whose most likely token reads as the parsed verdict. Empty if none is, as for
    verdicts of several tokens.
    """
    if verdict is None:
        return {}
    for position in reversed(answer.top):
        if position and normalise(max(position, key=position.__getitem__), allowed) == verdict:
            mass = dict.fromkeys(allowed, 0.0)
            for token, logprob in position.items():
                if (read := normalise(token, allowed)) is not None:
                    mass[read] += math.exp(logprob)
            whole = sum(mass.values())
            return {name: share / whole for name, share in mass.items()}
    return {}
