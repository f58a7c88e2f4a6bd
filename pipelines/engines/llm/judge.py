"""The judge: render the prompt, ask, parse the answer. One judgment a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from scipy.special import softmax

from pipelines.core.records import JUDGED, Row
from pipelines.engines import counts
from pipelines.engines.llm.ask import Ask
from pipelines.engines.llm.steps import PromptStep
from pipelines.engines.llm.verdict_probs import verdict_probs
from pipelines.judging.parse import Parsed, parse
from pipelines.judging.templates import READS, load, render

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

    def count(self, rows: Sequence[Row]) -> None:
        counts.judgments(rows)

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
            parsed = Parsed(None, "", "thoughts_cut") if answer.thoughts_cut else parse(answer.text, allowed)
            probs = verdict_probs(answer.text, parsed.place, answer.written, answer.top, allowed)
        row["raw"], row["critique"] = answer.text, parsed.critique
        row["thoughts"], row["thought_tokens"] = answer.thoughts or None, answer.thought_tokens or None
        row["predicted"], row["parse_status"] = parsed.verdict, parsed.status
        row["verdict_probs"] = list(probs.items())
        row["latency"] = answer.seconds
        # 0 means that an endpoint does not report them.
        row["prompt_tokens"], row["output_tokens"] = answer.prompt_tokens or None, answer.output_tokens or None
