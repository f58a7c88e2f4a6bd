"""Confidence intervals: a bootstrap that draws whole groups of rows, and closed forms for independent rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]
CHUNK = 4_000_000  # drawn counts held at once


def resample(columns: ArrayLike, groups: ArrayLike, draws: int, seed: int) -> Floats:
    """Column sums of resamples that draw groups with replacement.

    The same groups, draws and seed give the same resamples, whatever the columns: models are compared so.

    Args:
        columns: shape (N, K).
        groups: shape (N,), the group of each row.
        draws: number of resamples, B.
        seed: of the generator.

    Returns:
        Shape (B, K).
    """
    values = np.asarray(columns, dtype=np.float64)
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    totals = np.zeros((len(names), values.shape[1]))
    np.add.at(totals, index, values)
    return np.concatenate([counts @ totals for counts in _counts(len(names), draws, seed)])


def _counts(groups: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each resample draws each group, shape (B, groups), a chunk of the resamples at a time."""
    generator = np.random.default_rng(seed)
    chances = np.full(groups, 1 / groups)
    chunk = max(1, CHUNK // groups)
    for start in range(0, draws, chunk):
        yield generator.multinomial(groups, chances, size=min(chunk, draws - start))


def bootstrap(value: Callable[[pd.DataFrame], float | None], table: pd.DataFrame, draws: int, seed: int) -> Floats:
    """Any figure of a table over the resamples, shape (B,); NaN where it is undefined. Slow: a table for each.

    Args:
        value: the figure.
        table: a line per row, with group_id.
        draws: number of resamples, B.
        seed: of the generator.
    """
    names, index = np.unique(table["group_id"], return_inverse=True)
    rows = np.arange(len(table))
    found = [
        value(table.iloc[np.repeat(rows, drawn[index])])
        for counts in _counts(len(names), draws, seed)
        for drawn in counts
    ]
    return np.array(found, dtype=np.float64)  # None becomes NaN


def bootstrap_mean(points: ArrayLike, groups: ArrayLike, draws: int, seed: int) -> Floats:
    """Means of the resamples, shape (B,)."""
    values = np.asarray(points, dtype=np.float64)
    sums = resample(np.column_stack([values, np.ones_like(values)]), groups, draws, seed)
    return np.asarray(sums[:, 0] / sums[:, 1])


def bootstrap_pearson(x: ArrayLike, y: ArrayLike, groups: ArrayLike, draws: int, seed: int) -> Floats:
    """Pearson correlations of the resamples, shape (B,); 0 where one side of a resample is constant."""
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    # Centred, so that the sums of squares do not cancel; the correlation does not change.
    a, b = a - a.mean(), b - b.mean()
    sums = resample(np.column_stack([np.ones_like(a), a, b, a * a, b * b, a * b]), groups, draws, seed)
    n, sa, sb, saa, sbb, sab = sums.T
    va, vb = n * saa - sa * sa, n * sbb - sb * sb
    # Scores differ by hundredths at the least: a variance below this is rounding.
    varies = (va > 1e-12 * n * n) & (vb > 1e-12 * n * n)
    r = np.zeros_like(n)
    r[varies] = (n * sab - sa * sb)[varies] / np.sqrt(va[varies] * vb[varies])
    return np.clip(r, -1.0, 1.0)


def bootstrap_gap(values: ArrayLike, first: NDArray[np.bool_], groups: ArrayLike, draws: int, seed: int) -> Floats:
    """Mean over the rows of one kind minus mean over the others, of the resamples that have both kinds.

    Args:
        values: shape (N,).
        first: whether each row is of the one kind, shape (N,).
        groups: shape (N,), the group of each row.
        draws: number of resamples.
        seed: of the generator.
    """
    points = np.asarray(values, dtype=np.float64)
    sums = resample(np.column_stack([points * first, first, points * ~first, ~first]), groups, draws, seed)
    whole = sums[(sums[:, 1] > 0) & (sums[:, 3] > 0)]
    return np.asarray(whole[:, 0] / whole[:, 1] - whole[:, 2] / whole[:, 3])


def percentile(draws: Floats, confidence: float) -> Interval:
    """The percentile interval of bootstrap values."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def clustered(draw: Callable[[], Floats], groups: ArrayLike, confidence: float) -> tuple[Floats | None, Interval]:
    """Bootstrap values and their interval.

    Neither where all rows are of one group, which shows no spread, or where the figure is undefined in a resample.
    """
    if len(np.unique(np.asarray(groups))) < 2:
        return None, (None, None)
    draws = draw()
    if np.isnan(draws).any():
        return None, (None, None)
    return draws, percentile(draws, confidence)


def wilson(right: float, n: int, confidence: float) -> Interval:
    """Wilson interval of a share, as if rows were independent."""
    from statsmodels.stats.proportion import proportion_confint

    if n == 0:
        return None, None
    low, high = proportion_confint(right, n, alpha=1 - confidence, method="wilson")
    return float(low), float(high)


def fisher_z(x: ArrayLike, y: ArrayLike, confidence: float) -> Interval:
    """Fisher's z interval of a Pearson correlation, as if rows were independent; needs four that vary."""
    from scipy.stats import pearsonr

    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(a) < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None, None
    interval = pearsonr(a, b).confidence_interval(confidence)
    return float(interval.low), float(interval.high)
