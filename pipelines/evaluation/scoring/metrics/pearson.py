"""Pearson's correlation of a judge's scores with the gold ones."""

from __future__ import annotations

import pandas as pd

from pipelines.evaluation.scoring import correlations
from pipelines.evaluation.scoring.intervals import Floats, bootstrap_pearson
from pipelines.evaluation.scoring.metrics.registry import metric
from pipelines.judging.tasks import ABSOLUTE


def draw(table: pd.DataFrame, draws: int, seed: int) -> Floats:
    """Correlations of resamples, shape (B,)."""
    return bootstrap_pearson(table["score"], table["gold"], table["group_id"], draws, seed)


@metric("pearson", label="r", tasks=(ABSOLUTE,), draw=draw)
def pearson(table: pd.DataFrame) -> float | None:
    """Over all rows; an unread verdict is the middle of the scale."""
    return correlations.pearson(table["score"], table["gold"])
