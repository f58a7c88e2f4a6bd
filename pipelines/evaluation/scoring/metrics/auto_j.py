"""Official metrics of Auto-J (Li et al. 2023)."""

from __future__ import annotations

import pandas as pd

from pipelines.evaluation.asking.benchmark_rows import GIVEN, SWAPPED
from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.scoring.metrics.registry import Official, official
from pipelines.evaluation.scoring.verdict_tables import UNPARSED
from pipelines.judging.tasks import PAIRWISE


@official("auto_j", task=PAIRWISE)
def auto_j(table: pd.DataFrame, benchmark: Benchmark, seed: int) -> Official:
    """Shares of all pairs, those with an unread verdict among them; None where there is one order.

    `agreement`: right in both orders. `consistency`: the two verdicts name the same response, right or wrong.
    """
    if f"right_{SWAPPED}" not in table:
        return {"agreement": None, "consistency": None}
    first, second = table[f"verdict_{GIVEN}"], table[f"verdict_{SWAPPED}"]
    same = first.where(first != UNPARSED).map(PAIRWISE.opposite, na_action="ignore") == second
    return {
        "agreement": float((table[f"right_{GIVEN}"] & table[f"right_{SWAPPED}"]).mean()),
        "consistency": float(same.mean()),
    }
