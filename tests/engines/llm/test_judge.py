"""The judge step: what is kept of an answer, and the probabilities of the verdicts."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from pipelines.engines.llm.ask import Answer
from pipelines.engines.llm.judge import Judge


def answer(text: str, top: list[dict[str, float]] | None = None) -> Answer:
    return Answer(text, prompt_tokens=7, output_tokens=4, seconds=0.5, top=top or [])


NOTHING: dict[str, Any] = {"context": None, "reference": None, "rubric": None}


def test_judgment_keeps_verdict_critique_and_costs() -> None:
    row: dict[str, Any] = {
        "task": "pairwise",
        "template": "pairwise_compact",
        "instruction": "i",
        **NOTHING,
        "responses": ["a", "b"],
        "allowed": ["A", "B"],
    }

    async def ask(prompt: str, **options: Any) -> Answer:
        assert "Response A: a" in prompt and options["max_tokens"] == 9
        return answer("Reasoning: fine\nResult: B")

    asyncio.run(Judge(9).run(row, ask))
    assert (row["predicted"], row["critique"], row["parse_status"]) == ("B", "fine", "ok")
    assert (row["prompt_tokens"], row["output_tokens"], row["latency"]) == (7, 4, 0.5)


def test_the_judgment_alone_may_be_asked_for() -> None:
    row: dict[str, Any] = {"task": "classification", "template": "classification_compact", "instruction": "i"}
    row |= NOTHING | {"responses": ["a"], "allowed": ["Yes", "No"], "rubric": "q"}

    async def ask(prompt: str, **options: Any) -> Answer:
        assert "Result:" in prompt and "Reasoning" not in prompt
        return answer("Result: Yes")

    asyncio.run(Judge(9, "judgment_only").run(row, ask))
    assert (row["predicted"], row["critique"]) == ("Yes", "")


def test_one_token_is_the_likeliest_of_the_allowed_ones_with_all_their_probabilities() -> None:
    row: dict[str, Any] = {"task": "absolute", "template": "absolute_compact", "instruction": "i"}
    row |= NOTHING | {"responses": ["a"], "allowed": ["1", "2", "3"], "rubric": "q"}

    async def ask(prompt: str, *, max_tokens: int, rank_choices: list[str]) -> Answer:
        assert "Reasoning" not in prompt and max_tokens == 1
        assert rank_choices == ["Result: 1", "Result: 2", "Result: 3"]
        # A whole vocabulary away from likely, and still told apart: exp of any of them is 0.
        likely = dict(zip(rank_choices, [-1000 + math.log(share) for share in (0.2, 0.5, 0.3)], strict=True))
        return answer("Result: 2", [likely])

    asyncio.run(Judge(9, "one_token").run(row, ask))
    assert (row["predicted"], row["critique"], row["parse_status"]) == ("2", "", "ok")
    assert dict(row["verdict_probs"]) == pytest.approx({"1": 0.2, "2": 0.5, "3": 0.3})


def test_thoughts_are_kept_and_not_parsed_and_cut_ones_have_no_verdict() -> None:
    row: dict[str, Any] = {"task": "pairwise", "template": "pairwise_compact", "instruction": "i", **NOTHING}
    row |= {"responses": ["a", "b"], "allowed": ["A", "B"]}

    def said(text: str, *, cut: bool) -> Any:
        async def ask(prompt: str, **_: Any) -> Answer:
            return Answer(text, 7, 4, 0.5, thoughts="Result: B", thought_tokens=3, thoughts_cut=cut)

        return ask

    asyncio.run(Judge(9).run(row, said("Result: A", cut=False)))
    assert (row["raw"], row["thoughts"], row["thought_tokens"]) == ("Result: A", "Result: B", 3)
    assert (row["predicted"], row["parse_status"]) == ("A", "ok")
    asyncio.run(Judge(9).run(row, said("", cut=True)))
    assert (row["predicted"], row["parse_status"], row["critique"]) == (None, "thoughts_cut", "")


def test_probabilities_are_those_of_the_verdict_itself() -> None:
    row: dict[str, Any] = {"task": "pairwise", "template": "pairwise_compact", "instruction": "i", **NOTHING}
    row |= {"responses": ["a", "b"], "allowed": ["A", "B"]}

    async def ask(prompt: str, **_: Any) -> Answer:
        top = [{"Result:": 0.0}, {" A": math.log(0.51), " B": math.log(0.49)}, {"\nsee": 0.0}, {" A": math.log(0.999)}]
        return Answer("Result: A\nsee A", 7, 4, 0.5, top=top, written=["Result:", " A", "\nsee", " A"])

    asyncio.run(Judge(9).run(row, ask))
    assert dict(row["verdict_probs"]) == pytest.approx({"A": 0.51, "B": 0.49})
