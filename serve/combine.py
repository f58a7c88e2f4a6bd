"""What one judgment, or the judgments of both orders, say together: the batch job's own rule, as the API tells it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pipelines.core.records import Row
from pipelines.judging.combine import Judged, combine, turned_back
from pipelines.judging.tasks import Task
from serve.schemas import Judgment, OrderResult

Order = Literal["given", "swapped"]


def judged_order(row: Row, order: Order) -> OrderResult:
    """The judgment of a judged row, in terms of the responses as the caller gave them."""
    judged = Judged(row["predicted"], dict(row["verdict_probs"]), row["critique"], row["parse_status"])
    said = turned_back(row["task"], judged) if order == "swapped" else judged
    assert said.verdict is not None  # the engine is held to one
    return OrderResult(
        order=order,
        verdict=said.verdict,
        critique=said.critique,
        probabilities=dict(said.probabilities),
        parse_status=said.parse_status,
    )


def combined(task: Task, allowed: Sequence[str], criterion: str | None, orders: Sequence[OrderResult]) -> Judgment:
    """The judgment by one rubric (`pipelines/judging/combine.py`).

    Args:
        task: of the rows.
        allowed: the closed set, in the order that probabilities are listed in.
        criterion: its name.
        orders: one, or the given and the swapped one.
    """
    said = [Judged(one.verdict, one.probabilities, one.critique, one.parse_status) for one in orders]
    swapped = turned_back(task.name, said[1]) if len(said) > 1 else None  # as the judge saw it
    whole = combine(task.name, allowed, said[0], swapped)
    assert whole.verdict is not None
    return Judgment(
        criterion=criterion,
        verdict=whole.verdict,
        critique=whole.critique,
        probabilities=whole.probabilities,
        expected_score=whole.expected_score,
        consistent=whole.consistent,
        parse_status=whole.parse_status,
        orders=list(orders),
    )
