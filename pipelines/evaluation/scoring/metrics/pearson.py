"""Pearson's correlation of a judge's scores with the gold ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipelines.evaluation.scoring import correlations
from pipelines.evaluation.scoring.intervals import Floats, Measured
from pipelines.evaluation.scoring.jackknife import of_jackknife
from pipelines.evaluation.scoring.metrics.registry import metric
from pipelines.judging.tasks import ABSOLUTE


def measure(table: pd.DataFrame) -> Measured:
    """The correlation by the jackknife over groups, on Fisher's z scale."""
    return of_jackknife(pearson(table), without_groups(table), correlation=True)


def without_groups(table: pd.DataFrame) -> Floats:
    """The correlation without each group in turn, shape (G,); 0 for constant scores, NaN for constant gold."""
    # Centred, so that the sums of squares do not cancel; the correlation does not change.
    x, y = (table[name].to_numpy(dtype=np.float64) - table[name].mean() for name in ("score", "gold"))
    index = np.unique(table["group_id"], return_inverse=True)[1]
    sums = [np.bincount(index, column) for column in (np.ones_like(x), x, y, x * x, y * y, x * y)]
    n, sx, sy, sxx, syy, sxy = (part.sum() - part for part in sums)
    vx, vy = n * sxx - sx * sx, n * syy - sy * sy
    # Scores differ by hundredths at the least: a variance below this is rounding.
    least = 1e-12 * n * n
    product = np.sqrt(np.where((vx > least) & (vy > least), vx * vy, 1.0))
    r = np.where(vx > least, np.clip((n * sxy - sx * sy) / product, -1.0, 1.0), 0.0)
    return np.where(vy > least, r, np.nan)


@metric("pearson", label="r", tasks=(ABSOLUTE,), measure=measure)
def pearson(table: pd.DataFrame) -> float | None:
    """Over all rows; an unread verdict is the mean of the judge's read scores."""
    return correlations.pearson(table["score"], table["gold"])
