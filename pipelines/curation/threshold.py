"""Reward thresholds per source (§2.3): filter rows whose label endorses a low-reward response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow.compute as pc

from pipelines.core import storage
from pipelines.core.errors import RowFailure, UserError
from pipelines.core.records import OK, Row
from pipelines.core.stage import Filter
from pipelines.core.storage import Place
from pipelines.curation.config import Quantile
from pipelines.judging.tasks import TASKS


class RewardThreshold(Filter):
    """Filters rows of the named sources whose endorsed response scores below the threshold [ours].

    The paper removes data points below a threshold and does not say whose score a data point has. Here it is the
    score of the response that the label endorses: a bad response under a label that calls it bad is a good example,
    and dropping it would only shift the labels.

    - pairwise: the preferred response; in a tie the mean of both.
    - absolute: the response, if its label is above the middle of the scale; otherwise the row stays.
    - classification: no label of an arbitrary question endorses a response, so the row stays, and
      `check_thresholds` refuses a config that asks for it.

    Args:
        thresholds: source -> value, or quantile of the scores of the source's rows that have one.
    """

    name = "reward_threshold"
    reads = ("source", "task", "allowed", "verdict", "rewards")

    def __init__(self, thresholds: Mapping[str, float | Quantile]) -> None:
        self.thresholds = dict(thresholds)
        self.least = {source: least for source, least in thresholds.items() if not isinstance(least, Quantile)}

    def depends(self) -> dict[str, Any]:
        shares = {source: least for source, least in self.thresholds.items() if isinstance(least, Quantile)}
        return {"thresholds": self.thresholds | {source: least.identity() for source, least in shares.items()}}

    def open(self, source: Place) -> None:
        """Find the scores at the quantiles."""
        for name, least in self.thresholds.items():
            if isinstance(least, Quantile) and (scores := self._scores(source, name)):
                self.least[name] = float(np.quantile(scores, least.quantile))  # linear between two rows

    def reason(self, row: Row) -> str | None:
        if (least := self.least.get(row["source"])) is None:
            return None
        score = endorsed_reward(row)
        return "reward_below_threshold" if score is not None and score < least else None

    def _scores(self, rows: Place, source: str) -> list[float]:
        """The endorsed rewards of a source's rows."""
        batches = storage.read_batches(
            rows, self.reads, keep=(pc.field("source") == source) & (pc.field("status") == OK)
        )
        found = []
        for batch in batches:
            for row in batch.to_pylist():
                try:
                    found.append(endorsed_reward(row))
                except RowFailure:
                    continue  # `reason` makes it an error
        return [score for score in found if score is not None]


def endorsed_reward(row: Row) -> float | None:
    """The reward of the response that the row's label endorses, or None where it endorses none.

    Raises:
        RowFailure: the row has not been scored.
    """
    rewards: list[float] | None = row.get("rewards")
    if not rewards:
        raise RowFailure("no_rewards")
    task = TASKS[row["task"]]
    endorsed = [rewards[position] for position in task.endorsed(row["verdict"], row["allowed"])]
    return float(sum(endorsed) / len(endorsed)) if endorsed else None


def check_thresholds(thresholds: Mapping[str, float | Quantile], tasks: Mapping[str, str]) -> None:
    """Check the sources named in `curation.reward.thresholds` against the tasks of the sources that are read.

    Raises:
        UserError: a threshold for a source that is not read, or for one whose labels endorse no response.
    """
    for source in thresholds:
        where = f"curation.reward.thresholds.{source}"
        if source not in tasks:
            raise UserError("no such source", where=where, fix=f"known: {', '.join(sorted(tasks))}")
        if not TASKS[tasks[source]].endorses:
            raise UserError(
                f"a {tasks[source]} label endorses no response, so there is no score to compare",
                where=where,
                fix="set thresholds for pairwise or absolute sources only",
            )
