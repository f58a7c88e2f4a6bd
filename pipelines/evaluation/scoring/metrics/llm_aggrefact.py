"""Official metric of LLM-AggreFact (Tang et al. 2024)."""

from __future__ import annotations

import pandas as pd

from pipelines.evaluation.asking.benchmark_rows import GIVEN
from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.scoring.agreement import agreement
from pipelines.evaluation.scoring.metrics.registry import Official, official
from pipelines.judging.tasks import CLASSIFICATION


@official("llm_aggrefact", task=CLASSIFICATION)
def llm_aggrefact(table: pd.DataFrame, benchmark: Benchmark, seed: int) -> Official:
    """Balanced accuracy of each subset, and the mean of the subsets."""
    parts: dict[str, float | None] = {
        str(name): agreement(part["gold"].tolist(), part[f"verdict_{GIVEN}"].tolist()).balanced_accuracy
        for name, part in table.groupby("subset", sort=True)
    }
    known = [value for value in parts.values() if value is not None]
    return {"balanced_accuracy": parts, "mean_balanced_accuracy": sum(known) / len(known) if known else None}
