"""The headline of a benchmark with sections: their mean, each the weighted mean of its rows' points."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipelines.core.errors import UserError
from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.scoring.figures import Part
from pipelines.evaluation.scoring.intervals import Measured, mean_of, of_mean


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


def entries(table: pd.DataFrame, benchmark: Benchmark, confidence: float) -> dict[str, Part]:
    """Section -> its mean with a confidence interval, none where its rows are of one group."""
    sections, _ = _places(table, benchmark)
    found: dict[str, Part] = {}
    for name, one in _measured(table, benchmark).items():
        low, high = one.interval(confidence)
        found[name] = Part(n=int((sections == name).sum()), value=one.value, ci_low=low, ci_high=high)
    return found


def measure(table: pd.DataFrame, benchmark: Benchmark) -> Measured:
    """The headline with its interval; none where a section's rows are of one group."""
    parts = [one for one in _measured(table, benchmark).values() if one.value is not None]
    whole = mean_of(parts)
    return Measured(whole.value, whole.bounds, whole.why, np.mean([one.shifts for one in parts], axis=0))


def _measured(table: pd.DataFrame, benchmark: Benchmark) -> dict[str, Measured]:
    """Each section, its shifts over the groups of the whole table."""
    sections, weights = _places(table, benchmark)
    return {
        name: of_mean(table["points"], table["group_id"], weights * (sections == name)) for name in benchmark.sections
    }


def _places(table: pd.DataFrame, benchmark: Benchmark) -> tuple[pd.Series, pd.Series]:
    """Section and weight of each row."""
    of_subset = {subset: name for name, subsets in benchmark.sections.items() for subset in subsets}
    sections = table["subset"].map(of_subset)
    if sections.isna().any():
        stray = table["subset"][sections.isna()].iloc[0]
        raise UserError(f"the subset '{stray}' belongs to no section", where=f"benchmark '{benchmark.name}'")
    weights = {subset: counts_as / has for subset, (counts_as, has) in benchmark.row_weights.items()}
    return sections, table["subset"].map(weights).fillna(1.0).astype(float)
