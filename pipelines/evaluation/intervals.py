"""Intervals: a bootstrap that draws whole groups of rows, and the closed forms beside it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
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
    generator = np.random.default_rng(seed)
    chances = np.full(len(names), 1 / len(names))
    chunk = max(1, CHUNK // len(names))
    parts = [
        generator.multinomial(len(names), chances, size=min(chunk, draws - start)) @ totals
        for start in range(0, draws, chunk)
    ]
    return np.concatenate(parts)


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


def percentile(draws: Floats, confidence: float) -> Interval:
    """The percentile interval of bootstrap values."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def clustered(draw: Callable[[], Floats], groups: ArrayLike, confidence: float) -> tuple[Floats | None, Interval]:
    """Bootstrap values and their interval; none where all rows are of one group: it shows no spread."""
    if len(np.unique(np.asarray(groups))) < 2:
        return None, (None, None)
    draws = draw()
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
