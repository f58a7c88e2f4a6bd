"""Official metrics of RewardBench (Lambert et al. 2024) for generative judges."""

from __future__ import annotations

import pandas as pd

from pipelines.evaluation.asking.benchmark_rows import GIVEN, SWAPPED
from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.scoring import sections
from pipelines.evaluation.scoring.metrics.registry import Official, official
from pipelines.evaluation.scoring.orders import drawn_first
from pipelines.evaluation.scoring.verdict_tables import UNPARSED
from pipelines.judging.tasks import PAIRWISE


@official("reward_bench", task=PAIRWISE)
def reward_bench(table: pd.DataFrame, benchmark: Benchmark, seed: int) -> Official:
    """One random order a pair, an unread verdict 0.5: the headline's sections, and `overall`, their mean.

    The prior sets, which the authors add to the mean, are left out.
    """
    points = _half(table, GIVEN)
    if f"right_{SWAPPED}" in table:
        points = points.where(drawn_first(table, seed), _half(table, SWAPPED))
    lines = table.assign(points=points)
    return {**sections.scores(lines, benchmark), "overall": sections.headline(lines, benchmark)}


def _half(table: pd.DataFrame, order: str) -> pd.Series:
    """1 for a right verdict, 0.5 for an unread one, else 0."""
    unread = table[f"verdict_{order}"] == UNPARSED
    return table[f"right_{order}"].astype(float).mask(unread, 0.5)
