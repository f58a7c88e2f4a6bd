"""Official metric of JudgeBench (Tan et al. 2024)."""

from __future__ import annotations

import pandas as pd

from pipelines.evaluation.asking.benchmark_rows import GIVEN, SWAPPED
from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.scoring.metrics.registry import Official, official
from pipelines.judging.tasks import PAIRWISE


@official("judge_bench", task=PAIRWISE)
def judge_bench(table: pd.DataFrame, benchmark: Benchmark, seed: int) -> Official:
    """`correct`: share of pairs of whose two verdicts more are right than wrong; None where there is one order.

    An unread verdict is neither; one right and one wrong verdict are an inconsistent pair, not right.
    """
    if f"right_{SWAPPED}" not in table:
        return {"correct": None}
    first, second = (table[f"right_{order}"].astype(int) - _wrong(table, order) for order in (GIVEN, SWAPPED))
    return {"correct": float((first + second > 0).mean())}


def _wrong(table: pd.DataFrame, order: str) -> pd.Series:
    """Verdicts for the other response: neither right, nor unread, nor a tie."""
    return ~table[f"right_{order}"] & table[f"verdict_{order}"].isin(PAIRWISE.verdicts)
