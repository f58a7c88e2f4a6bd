"""Two models on the same rows: differences with paired intervals, and what they allow one to say."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.config import EvaluationConfig
from pipelines.evaluation.scoring import intervals
from pipelines.evaluation.scoring.figures import Figures
from pipelines.evaluation.scoring.score import Scored, draw, headline
from pipelines.judging.tasks import TASKS


class Difference(Figures):
    """What one model's headline is above another's on the same rows, and what that allows one to say."""

    n: int
    metric: str
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    sentence: str


class Comparison(Figures):
    """One model against another, by benchmark and by task; `model` is set where no key says which one."""

    model: str | None = None
    against: str
    benchmarks: dict[str, Difference]
    tasks: dict[str, Difference]


def compare(
    benchmarks: list[Benchmark],
    ours: list[Scored],
    theirs: list[Scored],
    names: tuple[str, str],
    config: EvaluationConfig,
    seed: int,
) -> Comparison:
    """Paired bootstrap of the difference of two models, per benchmark and task, on the rows both judged.

    Args:
        benchmarks: in the order of `ours` and `theirs`.
        ours: of the one model.
        theirs: of the other.
        names: of the one and of the other.
        config: bootstrap and confidence.
        seed: of the bootstrap.
    """
    per_benchmark: dict[str, Difference] = {}
    per_task: dict[str, list[tuple[Difference, intervals.Floats | None]]] = {}
    for benchmark, mine, other in zip(benchmarks, ours, theirs, strict=True):
        rows = mine.table.index.intersection(other.table.index)
        one, two = mine.table.loc[rows], other.table.loc[rows]
        value, base = headline(one, benchmark), headline(two, benchmark)
        difference = None if value is None or base is None else value - base
        draws, interval = intervals.clustered(
            partial(_paired, one, two, benchmark, config.bootstrap, seed), one["group_id"], config.confidence
        )
        entry = _difference(difference, interval, len(rows), names, benchmark.name, benchmark.metric, config)
        per_benchmark[benchmark.name] = entry
        if benchmark.metric == TASKS[benchmark.task].metric:
            per_task.setdefault(benchmark.task, []).append((entry, draws))
    tasks = {}
    for task, parts in per_task.items():
        draws = mean_draws([values for _, values in parts])
        interval = intervals.percentile(draws, config.confidence) if draws is not None else (None, None)
        n, value = sum(entry.n for entry, _ in parts), mean([entry.difference for entry, _ in parts])
        tasks[task] = _difference(value, interval, n, names, f"{task} tasks", TASKS[task].metric, config)
    return Comparison(against=names[1], benchmarks=per_benchmark, tasks=tasks)


def _paired(one: pd.DataFrame, two: pd.DataFrame, benchmark: Benchmark, draws: int, seed: int) -> intervals.Floats:
    # The same groups and the same seed on both sides: the same resamples.
    return draw(one, benchmark, draws, seed) - draw(two, benchmark, draws, seed)


def _difference(
    difference: float | None,
    interval: intervals.Interval,
    n: int,
    names: tuple[str, str],
    where: str,
    metric: str,
    config: EvaluationConfig,
) -> Difference:
    low, high = interval if difference is not None else (None, None)
    return Difference(
        n=n,
        metric=metric,
        difference=difference,
        ci_low=low,
        ci_high=high,
        sentence=sentence(names, where, metric, difference, low, high, n, config.confidence),
    )


def sentence(
    names: tuple[str, str],
    where: str,
    metric: str,
    difference: float | None,
    low: float | None,
    high: float | None,
    n: int,
    confidence: float,
) -> str:
    """What a difference and its interval allow one to say, and no more."""
    model, base = names
    if difference is None:
        return f"{where}: {model} and {base} cannot be compared, {metric} is not defined (n = {n})."
    if low is None or high is None:
        return f"{where}: {model} − {base} is {difference:+.3f} {metric}, without an interval (n = {n})."
    figures = f"{difference:+.3f} {metric}, {confidence:.0%} interval {low:+.3f} to {high:+.3f}, n = {n}"
    if low > 0:
        return f"{where}: {model} is better than {base} ({figures})."
    if high < 0:
        return f"{where}: {model} is worse than {base} ({figures})."
    return f"{where}: no difference between {model} and {base} is shown ({figures}, which includes 0)."


def mean(values: list[float | None]) -> float | None:
    """The mean; None without values, or where one of them is missing: no average over what happens to be there."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if values and len(known) == len(values) else None


def mean_draws(draws: list[intervals.Floats | None]) -> intervals.Floats | None:
    """As `mean`, of bootstrap values of shape (B,)."""
    known = [values for values in draws if values is not None]
    return np.mean(known, axis=0) if known and len(known) == len(draws) else None
