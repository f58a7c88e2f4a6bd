"""results.json: every model and benchmark, the task types, and the models compared."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.core.config import EvaluationConfig
from pipelines.core.files import write_json
from pipelines.evaluation import intervals, metrics
from pipelines.evaluation.judgments import read_judgments
from pipelines.evaluation.registry import METRIC_OF_TASK, PAPER_BENCHMARKS, Benchmark, load_all
from pipelines.evaluation.scoring import Entry, Scored, draw, headline, score

Results = dict[str, Any]
REQUIRED = ("n", "metric", "value", "ci_low", "ci_high", "parse_rate", "partial")
DIGITS = 6  # decimals kept: below what a sum's order of addition can change


def summarise(judgments: dict[str, Path], examples: Path | None, config: EvaluationConfig, seed: int) -> Results:
    """Everything the report shows, from the judgments alone: scoring again needs no model.

    Args:
        judgments: model -> its file or folder of judgments; the others are compared with the first.
        examples: folder of the rows asked about; not needed for files of `write_judgments`.
        config: benchmarks in the order shown, bootstrap, confidence and sample.
        seed: of the bootstrap and the `random` protocol.

    Returns:
        `models` (model -> benchmark -> entry), `tasks` (model -> task -> entry), `comparison` (model ->
        against, benchmarks, tasks), `overall` (model -> averages or why not) and `settings`; without NaN.

    Raises:
        UserError: judgments are missing, or a benchmark has none.
    """
    loaded = load_all(config.benchmarks)
    names = [benchmark.name for benchmark in loaded]
    scored: dict[str, list[Scored]] = {}
    for model, path in judgments.items():
        frame = read_judgments(path, examples)
        scored[model] = [score(frame, benchmark, config, seed) for benchmark in loaded]
    first = next(iter(scored))
    results = {
        "models": {model: dict(zip(names, (s.entry for s in each), strict=True)) for model, each in scored.items()},
        "tasks": {model: by_task(loaded, each, config) for model, each in scored.items()},
        "comparison": {
            model: {"against": first, **compare(loaded, each, scored[first], (model, first), config, seed)}
            for model, each in scored.items()
            if model != first
        },
        "overall": {model: overall(loaded, each) for model, each in scored.items()},
        "settings": settings(loaded, config, seed),
    }
    return plain(results)


def write_results(results: Results, path: Path) -> Path:
    """Write results.json."""
    write_json(path, results)
    return path


def by_task(benchmarks: list[Benchmark], scored: list[Scored], config: EvaluationConfig) -> dict[str, Entry]:
    """Per task type: the unweighted mean over its benchmarks, as in the paper; parse rate over judgments."""
    tasks: dict[str, Entry] = {}
    for task in METRIC_OF_TASK:
        mine = [s for b, s in zip(benchmarks, scored, strict=True) if b.task == task]
        if not mine:
            continue
        entries = [s.entry for s in mine]
        judged = sum(entry["judgments"] for entry in entries)
        value, draws = _mean([entry["value"] for entry in entries]), _mean_draws([s.draws for s in mine])
        low, high = None, None
        if value is not None and draws is not None:
            low, high = intervals.percentile(draws, config.confidence)
        tasks[task] = {
            "n": sum(entry["n"] for entry in entries),
            "metric": METRIC_OF_TASK[task],
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "accuracy": _mean([entry["accuracy"] for entry in entries]),
            "pearson": _mean([entry["pearson"] for entry in entries]) if task == "absolute" else None,
            "parse_rate": sum(entry["parse_rate"] * entry["judgments"] for entry in entries) / judged,
            "partial": any(entry["partial"] for entry in entries),
            "benchmarks": [b.name for b in benchmarks if b.task == task],
        }
    return tasks


def compare(
    benchmarks: list[Benchmark],
    ours: list[Scored],
    theirs: list[Scored],
    names: tuple[str, str],
    config: EvaluationConfig,
    seed: int,
) -> dict[str, dict[str, Entry]]:
    """Paired bootstrap of the difference of two models, per benchmark and task, on the rows both judged."""
    per_benchmark: dict[str, Entry] = {}
    per_task: dict[str, list[tuple[Entry, intervals.Floats | None]]] = {}
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
        per_task.setdefault(benchmark.task, []).append((entry, draws))
    tasks = {}
    for task, parts in per_task.items():
        draws = _mean_draws([values for _, values in parts])
        interval = intervals.percentile(draws, config.confidence) if draws is not None else (None, None)
        n, mean = sum(entry["n"] for entry, _ in parts), _mean([entry["difference"] for entry, _ in parts])
        tasks[task] = _difference(mean, interval, n, names, f"{task} tasks", METRIC_OF_TASK[task], config)
    return {"benchmarks": per_benchmark, "tasks": tasks}


def _paired(one: pd.DataFrame, two: pd.DataFrame, benchmark: Benchmark, draws: int, seed: int) -> Any:
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
) -> Entry:
    low, high = interval if difference is not None else (None, None)
    return {
        "n": n,
        "metric": metric,
        "difference": difference,
        "ci_low": low,
        "ci_high": high,
        "sentence": sentence(names, where, metric, difference, low, high, n, config.confidence),
    }


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


def overall(benchmarks: list[Benchmark], scored: list[Scored]) -> Entry:
    """The paper's averages, mean of 11 and mean of three task means; none unless all 11 are whole."""
    whole = {b.name: s.entry for b, s in zip(benchmarks, scored, strict=True) if not s.entry["partial"]}
    missing = [name for name in PAPER_BENCHMARKS if name not in whole or whole[name]["value"] is None]
    if missing:
        why = f"{len(missing)} of the paper's {len(PAPER_BENCHMARKS)} benchmarks are not here whole"
        return {"benchmarks": None, "tasks": None, "missing": missing, "why": why}
    means = [
        _mean([whole[name]["value"] for name in PAPER_BENCHMARKS if whole[name]["task"] == task])
        for task in METRIC_OF_TASK
    ]
    values = [whole[name]["value"] for name in PAPER_BENCHMARKS]
    return {"benchmarks": _mean(values), "tasks": _mean(means), "missing": [], "why": ""}


def settings(benchmarks: list[Benchmark], config: EvaluationConfig, seed: int) -> Entry:
    """Every protocol and value the figures depend on."""
    return {
        "seed": seed,
        **config.model_dump(mode="json"),
        "protocols": {
            "headline": "pairwise: mean of both orders; classification: accuracy; absolute: Pearson's r",
            "unparsed": "a verdict that cannot be read is wrong; Pearson takes the scale's middle for it",
            "interval": "percentile bootstrap that draws groups of rows of one instruction and context",
            "tasks": "unweighted mean over the benchmarks of the task",
            **metrics.PROTOCOLS,
        },
        "about": {
            b.name: {"about": b.about, "notes": b.notes, "license": b.license, "expected_n": b.expected_n}
            for b in benchmarks
        },
    }


def plain(value: Any) -> Any:
    """The value in JSON's own types, rounded; what is not a finite number becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return round(float(value), DIGITS) + 0.0 if math.isfinite(value) else None
    return value


def _mean(values: list[float | None]) -> float | None:
    """The mean, or None where one of the values is missing: no average over what happens to be there."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if values and len(known) == len(values) else None


def _mean_draws(draws: list[intervals.Floats | None]) -> intervals.Floats | None:
    known = [values for values in draws if values is not None]
    return np.mean(known, axis=0) if known and len(known) == len(draws) else None
