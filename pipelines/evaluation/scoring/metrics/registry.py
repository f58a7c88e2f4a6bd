"""What a benchmark's YAML can name: `metric`, its headline, and `authors`, its official metrics.

Each is one file of this folder, found by its decorator; nothing else lists them.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import pandas as pd

from pipelines.core.errors import UserError
from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.scoring import metrics as folder
from pipelines.evaluation.scoring.intervals import Measured
from pipelines.evaluation.scoring.jackknife import Ends, jackknife
from pipelines.judging.tasks import Task

Value: TypeAlias = Callable[[pd.DataFrame], float | None]
Measure: TypeAlias = Callable[[pd.DataFrame], Measured]
Official: TypeAlias = Mapping[str, float | dict[str, float | None] | None]
Rule: TypeAlias = Callable[[pd.DataFrame, Benchmark, int], Official]


@dataclass(frozen=True)
class Metric:
    """A headline figure.

    Attributes:
        name: in YAML and results.
        label: in the terminal.
        tasks: the names of those it suits.
        value: over the rows of a table (`verdict_tables.pairs`, for scores `verdict_tables.scores`); None where it is
            undefined.
        measure: the value with its interval.
        of_points: whether it is a mean of the rows' points, as benchmarks with sections, or with items of several
            rows, must be scored by.
    """

    name: str
    label: str
    tasks: tuple[str, ...]
    value: Value
    measure: Measure
    of_points: bool


@dataclass(frozen=True)
class OfficialMetrics:
    """What the authors of a benchmark report, by their own rules.

    Attributes:
        name: in YAML.
        tasks: the names of those it suits.
        figures: by name, from the table of `verdict_tables.pairs`, the benchmark and the run's seed.
    """

    name: str
    tasks: tuple[str, ...]
    figures: Rule


_METRICS: dict[str, Metric] = {}
_OFFICIAL: dict[str, OfficialMetrics] = {}


def metric(
    name: str,
    *,
    label: str,
    tasks: Sequence[Task],
    ends: Ends | None = (0.0, 1.0),
    correlation: bool = False,
    measure: Measure | None = None,
    of_points: bool = False,
) -> Callable[[Value], Value]:
    """Register a function of a table as a headline figure; see `Metric`.

    Without `measure` it is jackknifed, as a figure between two `ends` (None for one without), or as a correlation.
    """

    def register(value: Value) -> Value:
        names = tuple(task.name for task in tasks)
        interval = measure or partial(jackknife, value, ends=ends, correlation=correlation)
        _METRICS[name] = Metric(name, label, names, value, interval, of_points)
        return value

    return register


def official(name: str, *, task: Task) -> Callable[[Rule], Rule]:
    """Register a function as the official metrics of a benchmark; see `OfficialMetrics`."""

    def register(figures: Rule) -> Rule:
        _OFFICIAL[name] = OfficialMetrics(name, (task.name,), figures)
        return figures

    return register


def metrics() -> dict[str, Metric]:
    """Every headline figure, by name."""
    _import_all()
    return _METRICS


def official_metrics() -> dict[str, OfficialMetrics]:
    """Every set of official metrics, by name."""
    _import_all()
    return _OFFICIAL


def label_of(name: str) -> str:
    """The short name of a metric; the name itself where it is not known here, as in results of another version."""
    found = metrics().get(name)
    return found.label if found else name


def require_metrics(benchmarks: Sequence[Benchmark]) -> None:
    """Find out before any judgment is made whether the benchmarks can be scored.

    Raises:
        UserError: a metric or a set of official metrics is not known, or does not suit the benchmark.
    """
    for benchmark in benchmarks:
        _require("metric", benchmark.metric, metrics(), benchmark)
        if benchmark.authors:
            _require("official metrics", benchmark.authors, official_metrics(), benchmark)
        if (benchmark.sections or benchmark.best_of) and not metrics()[benchmark.metric].of_points:
            known = ", ".join(name for name, one in metrics().items() if one.of_points)
            raise UserError(
                f"`sections` and `best_of` do not go with the metric '{benchmark.metric}'",
                where=f"benchmark '{benchmark.name}'",
                fix=f"metric: {known}",
            )


def _require(
    kind: str, name: str, known: Mapping[str, Metric] | Mapping[str, OfficialMetrics], benchmark: Benchmark
) -> None:
    suitable = [other for other, one in known.items() if benchmark.task in one.tasks]
    if name not in suitable:
        raise UserError(
            f"no {kind} '{name}' for the task {benchmark.task}",
            where=f"benchmark '{benchmark.name}'",
            fix=f"known: {', '.join(sorted(suitable)) or 'none'}",
        )


def _import_all() -> None:
    for module in pkgutil.iter_modules(folder.__path__, f"{folder.__name__}."):
        importlib.import_module(module.name)  # registers; a file is imported once
