"""What one kind of training does to a judge, against another: a gain with an interval that counts rows and seeds.

Two things would come out otherwise in another experiment: which rows were held out, and which pairs were drawn in which
order. The variance of a gain is the sum of both: over held-out rows by the jackknife over their groups, over seeds by
how the gains of single seeds differ. The second has a part of the first in it, so the sum is somewhat too large rather
than too small. Degrees of freedom follow Satterthwaite (1946), so three seeds are taken for what they are.

Seeds that have a share f of their pairs in common are alike for that reason alone: the variance of the mean of k seeds
is then not s²/k but s²(1/k + f/(1-f)), for gains whose correlation is f. Else a source of random labels, whose few rows
of the pool happen to be more often right than wrong, would look like a good one the more seeds there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.core import storage
from pipelines.core.records import Row
from pipelines.core.storage import Place
from pipelines.evaluation.scoring.intervals import NONE, Floats, Measured, student
from pipelines.evaluation.scoring.metrics import pearson
from pipelines.experiments.trials.worker import VERDICTS
from pipelines.judging.tasks import TASKS

MEAN = "mean"
FEW = "fewer than two groups of rows, or nothing varies"
SAME = "every seed trains on the same rows: nothing says what other rows of the source would do"
ALL = 1 - 1e-9  # share of rows in common from which on they are the same
Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Gain:
    """A gain, and that of each seed alone."""

    measured: Measured
    seeds: tuple[float, ...]
    rows: int


def outcome(place: Place, asked: Sequence[Row]) -> Tables:
    """Benchmark -> a line a held-out row: its group, and its points or its score beside the gold one.

    A verdict is the likeliest of its closed set; points are shared among equally likely ones. A score is the mean of
    the scale under the verdicts' probabilities.
    """
    found = storage.read_table(place / VERDICTS)
    return tables(dict(zip(found["judgment_id"].to_pylist(), found["probs"].to_pylist(), strict=True)), asked)


def tables(probs: Mapping[str, Sequence[float]], asked: Sequence[Row]) -> Tables:
    """The same from the probabilities of each judgment's verdicts."""
    lines: dict[str, list[dict[str, object]]] = {}
    for row in asked:
        share = probs[row["judgment_id"]]
        line: dict[str, object] = {"group_id": row["group_id"]}
        if TASKS[row["task"]].scored:
            score = sum(float(verdict) * p for verdict, p in zip(row["allowed"], share, strict=True))
            line |= {"score": score, "gold": float(row["gold"])}
        else:
            top = [v for v, p in zip(row["allowed"], share, strict=True) if math.isclose(p, max(share), rel_tol=1e-9)]
            line |= {"points": (row["gold"] in top) / len(top)}
        lines.setdefault(row["benchmark"], []).append(line)
    return {name: pd.DataFrame(rows) for name, rows in lines.items()}


def tasks_of(asked: Sequence[Row]) -> dict[str, list[str]]:
    """Task -> its benchmarks, in the order of the tasks."""
    found = {row["benchmark"]: row["task"] for row in asked}
    return {task: names for task in TASKS if (names := [name for name, own in found.items() if own == task])}


def gains(
    ours: Sequence[Tables], theirs: Sequence[Tables], tasks: Mapping[str, Sequence[str]], common: float = 0.0
) -> dict[str, Gain]:
    """Task -> the gain of one kind of training over another, and under MEAN the mean of these.

    Args:
        ours: outcome of each seed. Of a single one only the rows count, as of a model that is there.
        theirs: that of the same seeds; or one for all, as the base model's.
        tasks: task -> benchmarks.
        common: share of its training rows that a seed has in common with another one.
    """
    several = sum(map(len, tasks.values())) > 1
    parts = {task: [_gain(ours, theirs, name, several) for name in names] for task, names in tasks.items()}
    means = {task: mean_of(found) for task, found in parts.items()}
    return {task: one.gain(common) for task, one in means.items()} | {MEAN: mean_of(list(means.values())).gain(common)}


def values(tables: Sequence[Tables], tasks: Mapping[str, Sequence[str]]) -> dict[str, float | None]:
    """Task -> the figure itself, mean over seeds and benchmarks."""
    found: dict[str, float | None] = {}
    for task, names in tasks.items():
        each = [_figure(one[name])[0] for one in tables for name in names]
        found[task] = None if any(math.isnan(value) for value in each) else float(np.mean(each))
    return found


@dataclass(frozen=True)
class Part:
    """A gain in parts: of each seed, the variance over rows, and its degrees of freedom.

    Attributes:
        lacking: benchmarks, of several, that have no figure or no variance and so leave the mean without.
    """

    seeds: Floats
    variance: float
    df: float
    rows: int
    lacking: tuple[str, ...] = ()

    def gain(self, common: float = 0.0) -> Gain:
        """With the interval of both sources of chance; `common` as in `gains`."""
        count, value = len(self.seeds), float(self.seeds.mean())
        whole = tuple(map(float, self.seeds))
        if count > 1 and common > ALL:
            return Gain(Measured(value if math.isfinite(value) else None, None, SAME), whole, self.rows)
        between = float(self.seeds.var(ddof=1)) * (1 / count + common / (1 - common)) if count > 1 else 0.0
        total = self.variance + between
        if not (math.isfinite(value) and math.isfinite(total) and total > 0):
            why = f"{', '.join(self.lacking)}: {FEW}" if self.lacking else FEW
            return Gain(Measured(value if math.isfinite(value) else None, None, why), whole, self.rows)
        alone = count / (1 + (count - 1) * common)  # seeds without rows in common that would say as much
        df = total**2 / (self.variance**2 / self.df + between**2 / max(1.0, alone - 1))

        def bounds(confidence: float) -> tuple[float, float]:
            reach = student(confidence, df) * math.sqrt(total)
            return value - reach, value + reach

        return Gain(Measured(value, bounds), whole, self.rows)


def mean_of(parts: Sequence[Part]) -> Part:
    """The mean of gains on different rows by the same seeds."""
    variances = [part.variance / len(parts) ** 2 for part in parts]
    total = sum(variances)
    below = sum(v**2 / part.df for v, part in zip(variances, parts, strict=True))
    df = total**2 / below if below > 0 else math.inf
    lacking = tuple(name for part in parts for name in part.lacking)
    return Part(np.mean([part.seeds for part in parts], axis=0), total, df, sum(part.rows for part in parts), lacking)


def _gain(ours: Sequence[Tables], theirs: Sequence[Tables], benchmark: str, several: bool) -> Part:
    mine = [_figure(one[benchmark]) for one in ours]
    other = [_figure(one[benchmark]) for one in theirs]
    other = other * len(mine) if len(other) == 1 else other
    seeds = np.array([a - b for (a, _), (b, _) in zip(mine, other, strict=True)])
    without = np.mean([a - b for (_, a), (_, b) in zip(mine, other, strict=True)], axis=0)
    groups = len(without)
    variance = (groups - 1) / groups * float(((without - without.mean()) ** 2).sum()) if groups > 1 else math.nan
    lacking = (benchmark,) if several and not (np.isfinite(seeds).all() and math.isfinite(variance)) else ()
    return Part(seeds, variance, max(1, groups - 1), len(ours[0][benchmark]), lacking)


def _figure(table: pd.DataFrame) -> tuple[float, Floats]:
    """The figure of one benchmark, and without each group in turn (G,)."""
    if "points" not in table:
        whole = pearson.pearson(table)
        return (math.nan if whole is None else whole), pearson.without_groups(table)
    points, index = table["points"].to_numpy(np.float64), np.unique(table["group_id"], return_inverse=True)[1]
    sums, sizes = np.bincount(index, points), np.bincount(index)
    rest = len(points) - sizes
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(points.mean()), np.where(rest > 0, (points.sum() - sums) / rest, np.nan)


def ends(measured: Measured, confidence: float) -> tuple[float | None, float | None]:
    """The interval, or two None."""
    return NONE if measured.bounds is None else measured.interval(confidence)
