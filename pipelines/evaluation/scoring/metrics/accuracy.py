"""Accuracy: the share of right verdicts, a pair's over both orders."""

from __future__ import annotations

import pandas as pd

from pipelines.evaluation.scoring.intervals import Measured, of_mean
from pipelines.evaluation.scoring.metrics.registry import metric
from pipelines.judging.tasks import CLASSIFICATION, PAIRWISE


def measure(table: pd.DataFrame) -> Measured:
    """The mean of the points, by groups."""
    return of_mean(table["points"], table["group_id"])


@metric("accuracy", label="acc", tasks=(PAIRWISE, CLASSIFICATION), measure=measure, of_points=True)
def accuracy(table: pd.DataFrame) -> float | None:
    """Mean of the rows' points."""
    return float(table["points"].mean()) if len(table) else None
