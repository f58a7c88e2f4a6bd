"""What the paper's tables say of other judges (arXiv 2501.17195, Tables 1 and 3), to be read beside our own rows."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from pipelines.evaluation.benchmarks.registry import BENCHMARKS, PAPER_BENCHMARKS
from pipelines.evaluation.scoring.results import Results
from pipelines.judging.tasks import TASKS

# The figures as printed cannot all be right: the average printed in the same row is that of 0.721.
MISPRINTS = {("Llama-3-OffsetBias-8B", "llm_aggrefact"): 0.721}


@dataclass(frozen=True)
class Judge:
    """One row of a table.

    Attributes:
        model: its name there.
        dagger: the authors report the figures of others ([†] in Table 1; Table 3 does not tell).
        tasks: the printed mean of the three task means; None where a benchmark is missing.
        benchmarks: the printed mean of the eleven.
        values: benchmark -> figure, of those that are printed.
        ours: whether it is a model of this run.
    """

    model: str
    dagger: bool
    tasks: float | None
    benchmarks: float | None
    values: dict[str, float]
    ours: bool = False


@cache
def table(number: Literal[1, 3]) -> tuple[Judge, ...]:
    """The rows of a table, in its order."""
    path = resources.files("pipelines.evaluation.report") / "published" / f"table_{number}.csv"
    return tuple(
        Judge(
            row["model"],
            row["source"] == "reported",
            _number(row["tasks"]),
            _number(row["benchmarks"]),
            {name: float(row[name]) for name in PAPER_BENCHMARKS if row[name]},
        )
        for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    )


def with_ours(results: Results) -> list[Judge]:
    """Table 1 below our models, each with what it was judged on whole; empty where that is nothing."""
    ours = []
    for model, per in results.models.items():
        whole = {name: per[name].value for name in PAPER_BENCHMARKS if name in per and not per[name].partial}
        values = {name: value for name, value in whole.items() if value is not None}
        tasks, benchmarks = averages(values) or (None, None)
        ours.append(Judge(model, False, tasks, benchmarks, values, ours=True))
    return [*ours, *table(1)] if any(judge.values for judge in ours) else []


@cache
def task_of(benchmark: str) -> str:
    """The task type of one of the paper's benchmarks."""
    return BENCHMARKS.load(benchmark).task


def averages(values: dict[str, float]) -> tuple[float, float] | None:
    """Mean of the three task means, and mean of the eleven; None unless all eleven are there."""
    if set(PAPER_BENCHMARKS) - values.keys():
        return None
    tasks = [[values[name] for name in PAPER_BENCHMARKS if task_of(name) == task] for task in TASKS]
    means = [sum(some) / len(some) for some in tasks]
    return sum(means) / len(means), sum(values[name] for name in PAPER_BENCHMARKS) / len(PAPER_BENCHMARKS)


def _number(text: str) -> float | None:
    return float(text) if text else None
