"""What a judge that reads nothing would score: the best single verdict for all rows, and a verdict at random."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.scoring import verdict_tables
from pipelines.evaluation.scoring.metrics.registry import metrics
from pipelines.judging.tasks import TASKS

Headline = Callable[[pd.DataFrame, Benchmark], float | None]


def table_of(judged: pd.DataFrame, benchmark: Benchmark) -> pd.DataFrame:
    """The table that a benchmark's headline is computed from."""
    rows = verdict_tables.scores(judged) if TASKS[benchmark.task].scored else verdict_tables.pairs(judged)
    return verdict_tables.best_of(rows) if benchmark.best_of else rows


def always_the_same(judged: pd.DataFrame, benchmark: Benchmark, headline: Headline) -> float | None:
    """The headline of the best judge among those that give the same verdict everywhere."""
    verdicts = sorted({verdict for allowed in judged["allowed"] for verdict in allowed})
    tables = (table_of(judged.assign(predicted=one, outcome="ok"), benchmark) for one in verdicts)
    values = [value for table in tables if (value := headline(table, benchmark)) is not None]
    return max((value for value in values if math.isfinite(value)), default=None)


def at_random(judged: pd.DataFrame, benchmark: Benchmark, headline: Headline) -> float | None:
    """The headline that a verdict at random, each allowed one equally likely, is expected to have.

    None for scores, and for a metric that is no mean of points: the points expected do not tell its value.
    """
    if not metrics()[benchmark.metric].of_points:
        return None
    chance = 1 / judged.groupby("row_id")["allowed"].first().map(len)
    rows = verdict_tables.pairs(judged)
    rows = rows.assign(points=chance.reindex(rows.index))
    if benchmark.best_of:  # an item is right where all its pairs are
        grouped = rows.groupby(["group_id", "subset"], sort=False, dropna=False)
        rows = grouped.agg(points=("points", "prod")).reset_index()
    return headline(rows, benchmark)
