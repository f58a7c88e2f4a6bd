"""Official metrics of RM-Bench (Liu et al. 2024)."""

from __future__ import annotations

import pandas as pd

from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.scoring import sections
from pipelines.evaluation.scoring.metrics.registry import Official, official
from pipelines.judging.tasks import PAIRWISE


@official("rm_bench", task=PAIRWISE)
def rm_bench(table: pd.DataFrame, benchmark: Benchmark, seed: int) -> Official:
    """`easy`, `normal` and `hard`, each the mean over the domains of its comparisons.

    Of the 3 x 3 styles of chosen and rejected response: hard where the rejected one's is the more elaborate, normal
    on the diagonal, easy where the chosen one's is. The subsets' names end with one of the three words.
    """
    return {
        level: sections.headline(table[table["subset"].str.endswith(f" {level}")], benchmark)
        for level in ("easy", "normal", "hard")
    }
