"""Agreement of scores with gold scores: correlations, and kappa with quadratic weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray


def pearson(score: ArrayLike, gold: ArrayLike) -> float | None:
    """Pearson's r; 0 for a constant score, which orders nothing, and None where gold is constant or alone."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, score, gold)


def spearman(score: ArrayLike, gold: ArrayLike) -> float | None:
    """Spearman's rank correlation, with the same conventions as `pearson`."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, score, gold)


def kendall(score: ArrayLike, gold: ArrayLike) -> float | None:
    """Kendall's tau-b, which corrects for ties, with the same conventions as `pearson`."""
    from scipy.stats import kendalltau

    return _correlation(kendalltau, score, gold)


def quadratic_kappa(table: pd.DataFrame) -> float | None:
    """Cohen's kappa with quadratic weights (Cohen 1968) between the verdicts read and the nearest allowed ones.

    Args:
        table: of `verdict_tables.scores`. An unread verdict has no distance to another, so it is left out; None if
            that leaves one label.
    """
    from sklearn.metrics import cohen_kappa_score

    read = table[table["read"]]
    truth, said = (read[name].astype(float).tolist() for name in ("nearest", "verdict"))
    scale = sorted({*truth, *said})
    if len(scale) < 2:
        return None
    # The weights are of places in the list of labels, so the list must have every step of the scale.
    steps = [str(value) for value in range(int(scale[0]), int(scale[-1]) + 1)]
    as_labels = [[str(int(value)) for value in values] for values in (truth, said)]
    return float(cohen_kappa_score(*as_labels, labels=steps, weights="quadratic"))


def _correlation(function: Callable[..., Any], score: ArrayLike, gold: ArrayLike) -> float | None:
    a: NDArray[np.float64] = np.asarray(score, dtype=np.float64)
    b: NDArray[np.float64] = np.asarray(gold, dtype=np.float64)
    if len(a) < 2 or np.ptp(b) == 0:
        return None
    if np.ptp(a) == 0:
        return 0.0
    return float(function(a, b).statistic)
