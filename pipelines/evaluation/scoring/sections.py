"""The headline of a benchmark with sections: their mean, each the weighted mean of its rows' points."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipelines.core.errors import UserError
from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.scoring.figures import Part
from pipelines.evaluation.scoring.intervals import Floats, percentile, resample


def headline(table: pd.DataFrame, benchmark: Benchmark) -> float | None:
    """The mean of the sections that have rows."""
    values = [value for value in scores(table, benchmark).values() if value is not None]
    return sum(values) / len(values) if values else None


def scores(table: pd.DataFrame, benchmark: Benchmark) -> dict[str, float | None]:
    """Section -> the weighted mean of its rows' points, None without rows.

    Args:
        table: a line per row, with subset and points.
        benchmark: the protocol.

    Raises:
        UserError: a row is of a subset that no section has: it would vanish from the headline.
    """
    sections, weights = _places(table, benchmark)
    found: dict[str, float | None] = {}
    for name in benchmark.sections:
        weight = weights * (sections == name)
        total = float(weight.sum())
        found[name] = float((weight * table["points"]).sum()) / total if total else None
    return found


def entries(table: pd.DataFrame, benchmark: Benchmark, draws: int, seed: int, confidence: float) -> dict[str, Part]:
    """Section -> its mean with a confidence interval, none where a resample lacks the section."""
    drawn = _drawn(table, benchmark, draws, seed) if table["group_id"].nunique() > 1 else None
    sections, _ = _places(table, benchmark)
    found: dict[str, Part] = {}
    for index, (name, value) in enumerate(scores(table, benchmark).items()):
        known = drawn is not None and not np.isnan(drawn[:, index]).any()
        low, high = percentile(drawn[:, index], confidence) if drawn is not None and known else (None, None)
        found[name] = Part(n=int((sections == name).sum()), value=value, ci_low=low, ci_high=high)
    return found


def draw(table: pd.DataFrame, benchmark: Benchmark, draws: int, seed: int) -> Floats:
    """Bootstrap values of the headline, shape (B,): groups of rows are drawn, with the sections' weights."""
    # A small section may be missing from a resample: the mean is then of the others, as in `headline`.
    return np.asarray(np.nanmean(_drawn(table, benchmark, draws, seed), axis=1))


def _drawn(table: pd.DataFrame, benchmark: Benchmark, draws: int, seed: int) -> Floats:
    """Section means of the resamples, shape (B, sections); NaN where a resample has no row of the section."""
    sections, weights = _places(table, benchmark)
    shares = np.column_stack([weights * (sections == name) for name in benchmark.sections])
    points = shares * table["points"].to_numpy()[:, None]
    sums = resample(np.hstack([points, shares]), table["group_id"], draws, seed)
    right, total = np.split(sums, 2, axis=1)
    return np.divide(right, total, out=np.full_like(right, np.nan), where=total > 0)


def _places(table: pd.DataFrame, benchmark: Benchmark) -> tuple[pd.Series, pd.Series]:
    """Section and weight of each row."""
    of_subset = {subset: name for name, subsets in benchmark.sections.items() for subset in subsets}
    sections = table["subset"].map(of_subset)
    if sections.isna().any():
        stray = table["subset"][sections.isna()].iloc[0]
        raise UserError(f"the subset '{stray}' belongs to no section", where=f"benchmark '{benchmark.name}'")
    weights = {subset: counts_as / has for subset, (counts_as, has) in benchmark.row_weights.items()}
    return sections, table["subset"].map(weights).fillna(1.0).astype(float)
