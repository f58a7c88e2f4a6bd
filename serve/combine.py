"""What one judgment, or the judgments of both orders, say together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pipelines.core.records import Row
from pipelines.judging.tasks import TASKS, Task
from serve.schemas import Judgment, OrderResult

Order = Literal["given", "swapped"]


def judged_order(row: Row, order: Order) -> OrderResult:
    """The judgment of a judged row, in terms of the responses as the caller gave them."""
    task, swapped = TASKS[row["task"]], order == "swapped"

    def turned(verdict: str) -> str:
        return task.opposite(verdict) if swapped else verdict

    return OrderResult(
        order=order,
        verdict=turned(row["predicted"]),
        critique=row["critique"],
        probabilities={turned(label): share for label, share in dict(row["verdict_probs"]).items()},
        parse_status=row["parse_status"],
    )


def combined(task: Task, allowed: Sequence[str], criterion: str | None, orders: Sequence[OrderResult]) -> Judgment:
    """The judgment by one rubric.

    With both orders the verdict is the one with the largest mean probability; where two are equally likely, the one
    that was found in the given order if it is among them, else the first of `allowed`. The critique is that of an
    order that found this verdict, the given order first.

    Args:
        task: of the rows.
        allowed: the closed set, in the order that probabilities are listed in.
        criterion: its name.
        orders: one, or the given and the swapped one.
    """
    first = orders[0]
    shares = {label: sum(one.probabilities[label] for one in orders) / len(orders) for label in allowed}
    verdict = first.verdict
    if len(orders) > 1:
        most = max(shares.values())
        likeliest = [label for label in allowed if shares[label] == most]
        verdict = first.verdict if first.verdict in likeliest else likeliest[0]
    speaker = next((one for one in orders if one.verdict == verdict), first)
    return Judgment(
        criterion=criterion,
        verdict=verdict,
        critique=speaker.critique,
        probabilities=shares,
        expected_score=sum(int(label) * share for label, share in shares.items()) if task.scored else None,
        consistent=len({one.verdict for one in orders}) == 1 if len(orders) > 1 else None,
        parse_status=next((one.parse_status for one in orders if one.parse_status != "ok"), "ok"),
        orders=list(orders),
    )
