"""Accuracy: the share of right verdicts, a pair's over both orders."""

from __future__ import annotations

import pandas as pd

from pipelines.evaluation.scoring.intervals import Floats, bootstrap_mean
from pipelines.evaluation.scoring.metrics.registry import metric
from pipelines.judging.tasks import CLASSIFICATION, PAIRWISE


def draw(table: pd.DataFrame, draws: int, seed: int) -> Floats:
    """Means of the points of resamples, shape (B,)."""
    return bootstrap_mean(table["points"], table["group_id"], draws, seed)


@metric("accuracy", label="acc", tasks=(PAIRWISE, CLASSIFICATION), draw=draw, baseline=True, of_points=True)
def accuracy(table: pd.DataFrame) -> float | None:
    """Mean of the rows' points."""
    return float(table["points"].mean()) if len(table) else None
