"""Reward thresholds per source (§2.3): rows whose label stands behind a poor response leave."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pipelines.core.config import Quantile
from pipelines.core.errors import UserError
from pipelines.core.files import Version, version
from pipelines.core.records import Row
from pipelines.core.stage import Filter


class RewardThreshold(Filter):
    """Turns away rows of the named sources whose endorsed response scores below the threshold [ours].

    The paper removes data points below a threshold and does not say whose score a data point has. Here it is
    the score of the response that the label endorses: a bad response under a label that calls it bad is a
    good example, and dropping it would only shift the labels.

    - pairwise: the preferred response; in a tie the mean of both.
    - absolute: the response, if its label is above the middle of the scale; otherwise the row stays.
    - classification: no label of an arbitrary question endorses a response, so the row stays, and
      `check_thresholds` refuses a config that asks for it.

    Args:
        thresholds: source -> value, or quantile of the scores of the source's rows that have one.
        rows: folder of the scored rows, for quantiles.
    """

    name = "reward_threshold"
    reads = ("source", "task", "allowed", "verdict", "rewards")

    def __init__(self, thresholds: Mapping[str, float | Quantile], rows: Path) -> None:
        self.thresholds, self.rows = dict(thresholds), rows

    def reason(self, row: Row) -> str | None:
        """`reward_below_threshold`, or None."""
        least = self.thresholds.get(row["source"])
        if least is None:
            return None
        if isinstance(least, Quantile):
            least = quantile_value(version(self.rows), row["source"], least.quantile)
        score = endorsed_reward(row)
        return "reward_below_threshold" if score is not None and score < least else None


@cache
def quantile_value(rows: Version, source: str, quantile: float) -> float:
    """The score below which a share `quantile` of a source's rows lie (linear between two rows).

    Raises:
        ValueError: no row of the source has a score.
    """
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.dataset as pads

    wanted = (pc.field("source") == source) & (pc.field("status") == "ok")
    batches = pads.dataset(rows.path, format="parquet").to_batches(
        columns=["source", "task", "allowed", "verdict", "rewards"], filter=wanted
    )
    scores = [score for batch in batches for row in batch.to_pylist() if (score := endorsed_reward(row)) is not None]
    if not scores:
        raise ValueError(f"no row of '{source}' has a score")
    return float(np.quantile(scores, quantile))


def endorsed_reward(row: Row) -> float | None:
    """The reward of the response that the row's label endorses, or None where it endorses none.

    Raises:
        ValueError: the row has not been scored.
    """
    rewards: list[float] | None = row.get("rewards")
    if not rewards:
        raise ValueError("the row has no rewards")
    if row["task"] == "pairwise":
        endorsed = {"A": [rewards[0]], "B": [rewards[1]]}.get(row["verdict"]) or rewards
        return float(sum(endorsed) / len(endorsed))
    if row["task"] == "absolute":
        scale = [float(value) for value in row["allowed"]]
        middle = (min(scale) + max(scale)) / 2
        return float(rewards[0]) if float(row["verdict"]) > middle else None
    return None


def check_thresholds(thresholds: Mapping[str, float | Quantile], tasks: Mapping[str, str]) -> None:
    """Check the sources named in `curation.reward.thresholds` against the tasks of the sources that are read.

    Raises:
        UserError: a threshold for a source that is not read, or for one of classification rows.
    """
    for source in thresholds:
        where = f"curation.reward.thresholds.{source}"
        if source not in tasks:
            raise UserError("no such source", where=where, fix=f"known: {', '.join(sorted(tasks))}")
        if tasks[source] == "classification":
            raise UserError(
                "a classification label endorses no response, so there is no score to compare",
                where=where,
                fix="set thresholds for pairwise or absolute sources only",
            )
