"""Judge a request in one order or in both, and combine the answers as the service does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipelines.core.records import TEXT, Row
from pipelines.engines import counts
from pipelines.engines.llm.ask import Answer, Ask
from pipelines.engines.llm.steps import PromptStep
from pipelines.judging.combine import Judged, combine, turned_back
from pipelines.judging.tasks import TASKS

GIVEN, SWAPPED = "given", "swapped"
SHARES = pa.map_(TEXT, pa.float64())
ORDER = pa.struct(
    [
        ("order", TEXT),  # given | swapped
        ("verdict", TEXT),  # of the responses as the caller gave them
        ("critique", TEXT),  # as written: in the swapped order, Response A is the caller's second
        ("probabilities", SHARES),
        ("parse_status", TEXT),
    ]
)
JUDGMENT = [
    pa.field("verdict", TEXT),
    pa.field("critique", TEXT),
    pa.field("probabilities", SHARES),  # of every allowed verdict
    pa.field("expected_score", pa.float64()),
    pa.field("consistent", pa.bool_()),
    pa.field("parse_status", TEXT),
    pa.field("orders", pa.list_(ORDER)),
    pa.field("prompt_tokens", pa.int64()),  # of all orders together
    pa.field("output_tokens", pa.int64()),
    pa.field("cached_tokens", pa.int64()),
]


class BothOrders(PromptStep):
    """One judgment a row; of pairs, where that is asked for, out of both orders.

    The second order is asked after the first, so that it finds what they share in the prefix cache.

    Args:
        judge: judges the responses in the order of a row.
        both: judge pairs in both orders.
    """

    name = "judge"
    adds = tuple(JUDGMENT)

    def __init__(self, judge: PromptStep, both: bool) -> None:
        self.judge, self.both, self.reads, self.closes = judge, both, judge.reads, judge.closes

    def depends(self) -> dict[str, Any]:
        return {"both_orders": self.both, "judge": self.judge.depends()}

    def count(self, rows: Sequence[Row]) -> None:
        counts.judgments(rows)

    async def run(self, row: Row, ask: Ask) -> None:
        cached = 0

        async def counted(prompt: str, **settings: Any) -> Answer:
            nonlocal cached
            answer = await ask(prompt, **settings)
            cached += answer.cached_tokens
            return answer

        rows = [dict(row)]
        await self.judge.run(rows[0], counted)
        if self.both and TASKS[row["task"]].ordered:
            rows.append({**row, "responses": row["responses"][::-1]})
            await self.judge.run(rows[1], counted)
        judged = [
            Judged(one["predicted"], dict(one["verdict_probs"]), one["critique"], one["parse_status"]) for one in rows
        ]
        whole = combine(row["task"], row["allowed"], judged[0], judged[1] if len(judged) > 1 else None)
        row["verdict"], row["critique"] = whole.verdict, whole.critique
        row["probabilities"] = list(whole.probabilities.items())
        row["expected_score"], row["consistent"] = whole.expected_score, whole.consistent
        row["parse_status"] = whole.parse_status
        as_given = [judged[0], *(turned_back(row["task"], one) for one in judged[1:])]
        row["orders"] = [
            {
                "order": order,
                "verdict": one.verdict,
                "critique": one.critique,
                "probabilities": list(one.probabilities.items()),
                "parse_status": one.parse_status,
            }
            for order, one in zip((GIVEN, SWAPPED), as_given, strict=False)
        ]
        for name in ("prompt_tokens", "output_tokens"):
            row[name] = sum(one[name] or 0 for one in rows) or None  # 0 means that an endpoint does not report them
        row["cached_tokens"] = cached
