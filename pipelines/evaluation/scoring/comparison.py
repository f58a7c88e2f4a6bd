"""Two models on the same rows: differences with their intervals, and which of them are more than chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.config import EvaluationConfig
from pipelines.evaluation.scoring import intervals, sentences
from pipelines.evaluation.scoring.figures import Figures
from pipelines.evaluation.scoring.intervals import Measured
from pipelines.evaluation.scoring.score import Scored, measure
from pipelines.evaluation.scoring.sentences import Standing
from pipelines.evaluation.scoring.task_means import by_task, parts_of
from pipelines.judging.tasks import TASKS


class Difference(Figures):
    """What one model's headline is above another's on the same rows, and what that allows one to say.

    Attributes:
        shown: `higher` or `lower` where the difference is more than chance, all sentences of the comparison counted.
    """

    n: int
    metric: str
    difference: float | None
    ci_low: float | None
    ci_high: float | None
    shown: Literal["higher", "lower", ""]
    sentence: str


class Comparison(Figures):
    """One model against another, by benchmark and by task; `model` is set where no key says which one."""

    model: str | None = None
    against: str
    benchmarks: dict[str, Difference]
    tasks: dict[str, Difference]


def compare(
    benchmarks: Sequence[Benchmark],
    ours: Sequence[Scored],
    theirs: Sequence[Scored],
    names: tuple[str, str],
    config: EvaluationConfig,
) -> Comparison:
    """Differences of two models, per benchmark and task, on the rows both judged.

    Args:
        benchmarks: in the order of `ours` and `theirs`.
        ours: of the one model.
        theirs: of the other.
        names: of the one and of the other.
        config: confidence.
    """
    gaps: dict[str, Measured] = {}
    rows: dict[str, int] = {}
    for benchmark, mine, other in zip(benchmarks, ours, theirs, strict=True):
        shared = mine.table.index.intersection(other.table.index)
        one, two = (measure(scored.table.loc[shared], benchmark) for scored in (mine, other))
        gaps[benchmark.name], rows[benchmark.name] = intervals.difference(one, two), len(shared)
    # A task of one benchmark says the same again: no test of its own.
    parts = {task: parts_of(benchmarks, TASKS[task]) for task in TASKS}
    means = {task: intervals.mean_of([gaps[name] for name in names]) for task, names in parts.items() if names}
    tested = gaps | {f"{task} tasks": mean for task, mean in means.items() if len(parts[task]) > 1}
    shown = more_than_chance(tested, 1 - config.confidence)
    shown |= {f"{task} tasks": shown[found[0]] for task, found in parts.items() if len(found) == 1}

    def entry(where: str, gap: Measured, n: int, metric: str, sides: tuple[Standing, Standing]) -> Difference:
        low, high = gap.interval(config.confidence)
        sign: Literal["higher", "lower", ""] = ""
        if shown[where] and gap.value is not None:
            sign = "higher" if gap.value > 0 else "lower"
        said = sentences.Said(where, metric, gap.value, (low, high), gap.why, n, sign, config.confidence)
        return Difference(
            n=n,
            metric=metric,
            difference=gap.value,
            ci_low=low,
            ci_high=high,
            shown=sign,
            sentence=sentences.sentence(said, names, sides),
        )

    standings = [
        {benchmark.name: scored.entry for benchmark, scored in zip(benchmarks, side, strict=True)}
        for side in (ours, theirs)
    ]
    tasks = [by_task(benchmarks, side, config) for side in (ours, theirs)]
    return Comparison(
        against=names[1],
        benchmarks={
            one.name: entry(
                one.name, gaps[one.name], rows[one.name], one.metric, (standings[0][one.name], standings[1][one.name])
            )
            for one in benchmarks
        },
        tasks={
            task: entry(
                f"{task} tasks",
                mean,
                sum(rows[name] for name in parts[task]),
                TASKS[task].metric,
                (tasks[0][task], tasks[1][task]),
            )
            for task, mean in means.items()
        },
    )


def more_than_chance(gaps: Mapping[str, Measured], error: float) -> dict[str, bool]:
    """Which differences are not 0, with at most `error` chance of one false yes among all of them (Holm 1979)."""
    from statsmodels.stats.multitest import multipletests

    if not gaps:
        return {}
    rejected = multipletests([gap.p_value() for gap in gaps.values()], alpha=error, method="holm")[0]
    return {name: bool(yes) for name, yes in zip(gaps, rejected, strict=True)}
