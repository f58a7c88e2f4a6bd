"""Which settings are tried, and which pairs a trial of them takes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.core.determinism import unit
from pipelines.core.records import Row
from pipelines.curation.config import CurationConfig
from pipelines.experiments.axes.config import AxesConfig
from pipelines.experiments.sweep.config import SweepConfig
from pipelines.experiments.trials.trial import Trial, draw, trial
from pipelines.training.config import TrainConfig

OF_TRAINING = ("learning_rate", "alpha", "weight_decay", "beta", "nll")
OF_MIXTURE = ("cot_share", "drop_inconsistent_rejected")
OWN = "as configured"


@dataclass(frozen=True)
class Point:
    """Settings of some trials.

    Attributes:
        name: what differs from the config's own, in words.
        values: of all axes.
    """

    name: str
    values: Mapping[str, Any]

    def changes(self, own: Point) -> dict[str, Any]:
        """Keys of `train` that differ."""
        return {axis: self.values[axis] for axis in OF_TRAINING if self.values[axis] != own.values[axis]}


def points_of(axes: AxesConfig, sweep: SweepConfig, train: TrainConfig, curation: CurationConfig) -> list[Point]:
    """The config's own settings first, and each other setting once."""
    own = {axis: getattr(train, axis) for axis in OF_TRAINING}
    own |= {
        "cot_share": curation.mix.cot_share,
        "drop_inconsistent_rejected": curation.critique.drop_inconsistent_rejected,
    }
    tried = [{**own, axis: value} for axis in (*OF_TRAINING, *OF_MIXTURE) for value in getattr(axes, axis)]
    if axes.grid:
        names = ("learning_rate", "alpha", "weight_decay")
        grid = itertools.product(*(getattr(sweep, name) for name in names))
        tried += [{**own, **dict(zip(names, values, strict=True))} for values in grid]
    found = [Point(OWN, own)]
    for values in tried:
        if all(values != one.values for one in found):
            told = ", ".join(f"{axis} {shown(value)}" for axis, value in values.items() if value != own[axis])
            found.append(Point(told, values))
    return found


def shown(value: Any) -> str:
    """A value in a few characters."""
    return f"{value:g}" if isinstance(value, float) else str(value).lower()


def id_of(row: str, form: str) -> str:
    """The id of a row in one of its two formats."""
    return f"{row}.{form}"


def trials_of(
    point: Point, own: Point, rows: Sequence[Row], pairs: int, seeds: Sequence[int], seed: int
) -> tuple[Trial, ...]:
    """A trial for each seed.

    Args:
        point: the settings.
        own: the config's.
        rows: that have both formats, with `row_id` and `rejected_consistent`.
        pairs: of a trial.
        seeds: of the trials.
        seed: of the run, by which each row has its format, as in the mixture.
    """
    dropped = point.values["drop_inconsistent_rejected"]
    left = [str(row["row_id"]) for row in rows if row["rejected_consistent"] or not dropped]

    def form(row: str) -> str:
        return "cot" if unit(seed, "format", row) < point.values["cot_share"] else "judgment_only"

    changes = point.changes(own)
    drawn = draw(left, min(pairs, len(left)), seeds)
    return tuple(
        trial([id_of(row, form(row)) for row in rows], one, changes) for rows, one in zip(drawn, seeds, strict=True)
    )
