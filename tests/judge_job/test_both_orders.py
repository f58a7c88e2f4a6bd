"""One judgment a row, out of one order or both."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipelines.core.errors import RowFailure
from pipelines.core.records import Row
from pipelines.engines.llm.ask import Answer
from pipelines.engines.llm.judge import Judge
from pipelines.engines.llm.steps import PromptStep, run_rows
from pipelines.judge_job.both_orders import BothOrders

from .conftest import PAIR


class FirstIsBetter(PromptStep):
    """A stub in place of a judge: as sure of Response A as the row's `sure` says, first for the given order."""

    name = "stub"
    reads = ("responses", "allowed")

    async def run(self, row: Row, ask: Any) -> None:
        share = row["sure"][0 if row["responses"][0] == "Red." else 1]
        answer = await ask("prompt", max_tokens=1)
        verdict = "A" if share > 0.5 else "B"
        row |= {"predicted": verdict, "critique": f"{row['responses'][0]} first", "parse_status": "ok"}
        row |= {"verdict_probs": [("A", share), ("B", 1 - share)], "prompt_tokens": answer.prompt_tokens}
        row["output_tokens"] = answer.output_tokens


async def ask(prompt: str, **settings: Any) -> Answer:
    """A stub: every answer costs the same."""
    return Answer("", prompt_tokens=10, output_tokens=2, seconds=0.1, cached_tokens=4)


def judged(sure: list[float], both: bool, **changes: Any) -> Row:
    row = {**PAIR, "allowed": ["A", "B"], "sure": sure, "status": "ok", **changes}
    asyncio.run(BothOrders(FirstIsBetter(), both).run(row, ask))
    return row


def test_one_order_is_the_judges_word() -> None:
    row = judged([0.8, 0.9], both=False)
    assert (row["verdict"], row["critique"], row["consistent"]) == ("A", "Red. first", None)
    assert row["probabilities"] == [("A", 0.8), ("B", pytest.approx(0.2))]
    assert [one["order"] for one in row["orders"]] == ["given"]
    assert (row["prompt_tokens"], row["output_tokens"], row["cached_tokens"]) == (10, 2, 4)


def test_both_orders_are_turned_back_averaged_and_counted_together() -> None:
    row = judged([0.6, 0.9], both=True)  # a judge that likes what comes first: the caller's B has 0.9 of the second
    assert (row["verdict"], row["consistent"], row["critique"]) == ("B", False, "Seven. first")
    assert dict(row["probabilities"]) == pytest.approx({"A": (0.6 + 0.1) / 2, "B": (0.4 + 0.9) / 2})
    given, swapped = row["orders"]
    assert (given["verdict"], swapped["verdict"]) == ("A", "B")
    assert dict(swapped["probabilities"]) == pytest.approx({"B": 0.9, "A": 0.1})
    assert (row["prompt_tokens"], row["output_tokens"], row["cached_tokens"]) == (20, 4, 8)
    assert row["responses"] == PAIR["responses"]


def test_tasks_of_one_response_have_one_order() -> None:
    row = judged([0.8, 0.9], both=True, task="classification", responses=["Red."])
    assert len(row["orders"]) == 1 and row["consistent"] is None


def test_an_order_that_fails_fails_the_row() -> None:
    async def broken(prompt: str, **settings: Any) -> Answer:
        """A stub that refuses."""
        raise RowFailure("no_answer")

    row = {**PAIR, "allowed": ["A", "B"], "sure": [0.8, 0.9], "status": "ok"}
    asyncio.run(run_rows([row], [BothOrders(FirstIsBetter(), both=True)], broken))
    assert row["status"] == "error:judge:no_answer" and "verdict" not in row


def test_the_result_depends_on_the_orders_and_the_judge() -> None:
    one, other = (BothOrders(Judge(8), both) for both in (False, True))
    assert one.depends() != other.depends() != BothOrders(Judge(9), True).depends()
