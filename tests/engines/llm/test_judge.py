"""The judge step: what is kept of an answer, and the probabilities of the verdicts."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from pipelines.engines.llm.ask import Answer
from pipelines.engines.llm.judge import Judge, verdict_probs


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


def test_probabilities_are_read_at_the_last_verdict_token() -> None:
    top = [{" A": math.log(0.9)}, {"Result": 0.0}, {" A": math.log(0.2), " B": math.log(0.6), "\n": math.log(0.2)}]
    probs = verdict_probs(answer("A\nResult: B", top), "B", ["A", "B"])
    assert probs == pytest.approx({"A": 0.25, "B": 0.75})


def test_no_probabilities_without_a_verdict_or_its_token() -> None:
    assert verdict_probs(answer("x", [{"x": 0.0}]), None, ["A", "B"]) == {}
    assert verdict_probs(answer("x", [{"x": 0.0}]), "B", ["A", "B"]) == {}
