"""One model on one task: the mean over its benchmarks, each row counted once."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.config import EvaluationConfig
from pipelines.evaluation.scoring.entries import ScoreEntry
from pipelines.evaluation.scoring.figures import Figures
from pipelines.evaluation.scoring.intervals import mean_of
from pipelines.evaluation.scoring.score import Scored
from pipelines.judging.tasks import TASKS, Task


class TaskEntry(Figures):
    """One model on one task: means over its benchmarks, `n` and `parse_rate` over all rows and judgments.

    Attributes:
        baseline: mean of what one verdict everywhere would score.
        chance: mean of what a verdict at random is expected to score.
        position_consistency: over the pairs of all benchmarks that were read in both orders, of which there are
            `position_consistency_n`.
    """

    n: int
    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    accuracy: float | None
    pearson: float | None
    parse_rate: float
    baseline: float | None
    chance: float | None
    position_consistency: float | None
    position_consistency_n: int
    partial: bool
    benchmarks: list[str]

    @property
    def consistency(self) -> tuple[float | None, int]:
        """As of a benchmark."""
        return self.position_consistency, self.position_consistency_n


def parts_of(benchmarks: Sequence[Benchmark], task: Task) -> list[str]:
    """The benchmarks in a task's mean: those of its metric whose rows no other benchmark of the run has."""
    judged = {benchmark.name for benchmark in benchmarks}
    return [
        one.name
        for one in benchmarks
        if one.task == task.name and one.metric == task.metric and one.within not in judged
    ]


def by_task(
    benchmarks: Sequence[Benchmark], scored: Sequence[Scored], config: EvaluationConfig
) -> dict[str, TaskEntry]:
    """Per task type: the unweighted mean over its benchmarks, as in the paper; parse rate over judgments.

    A benchmark that is scored by another metric than the task's is not a part of the mean.
    """
    known = {benchmark.name: each for benchmark, each in zip(benchmarks, scored, strict=True)}
    tasks: dict[str, TaskEntry] = {}
    for task in TASKS.values():
        names = parts_of(benchmarks, task)
        if not names:
            continue
        entries = [known[name].entry for name in names]
        judged = sum(entry.judgments for entry in entries)
        whole = mean_of([known[name].measured for name in names])
        low, high = whole.interval(config.confidence)
        shares = [entry.consistency for entry in entries]
        twice = sum(n for _, n in shares)
        tasks[task.name] = TaskEntry(
            n=sum(entry.n for entry in entries),
            metric=task.metric,
            value=whole.value,
            ci_low=low,
            ci_high=high,
            accuracy=mean([entry.accuracy for entry in entries]),
            pearson=mean([entry.pearson for entry in entries if isinstance(entry, ScoreEntry)]),
            parse_rate=sum((entry.parse_rate or 0.0) * entry.judgments for entry in entries) / judged,
            baseline=mean([entry.baseline for entry in entries]),
            chance=mean([entry.chance for entry in entries]),
            position_consistency=sum((share or 0.0) * n for share, n in shares) / twice if twice else None,
            position_consistency_n=twice,
            partial=any(entry.partial for entry in entries),
            benchmarks=names,
        )
    return tasks


def mean(values: list[float | None]) -> float | None:
    """The mean; None without values, or where one of them is missing: no average over what happens to be there."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if values and len(known) == len(values) else None
