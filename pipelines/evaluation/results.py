"""results.json: every model and benchmark, the task types, and the models compared."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipelines.core.config import EvaluationConfig
from pipelines.core.files import write_json
from pipelines.evaluation import intervals, metrics
from pipelines.evaluation.bias import bias, bias_of_scores
from pipelines.evaluation.comparison import compare, mean, mean_draws
from pipelines.evaluation.critique_check import critique_consistency
from pipelines.evaluation.judgments import read_judgments
from pipelines.evaluation.own_responses import known_as
from pipelines.evaluation.registry import METRIC_OF_TASK, PAPER_BENCHMARKS, Benchmark, load_all
from pipelines.evaluation.robustness import robustness
from pipelines.evaluation.scoring import Entry, Scored, score

Results = dict[str, Any]
ASKED_FOR = {
    "cot": "a critique and a judgment, greedily, in at most {} tokens",
    "judgment_only": "a judgment without a critique, greedily, in at most {} tokens",
    "one_token": "the likeliest of the allowed verdicts at the one token after `Result:`; it can always be read",
}
REQUIRED = ("n", "metric", "value", "ci_low", "ci_high", "parse_rate", "partial")
DIGITS = 6  # decimals kept: below what a sum's order of addition can change


def summarise(
    judgments: dict[str, Path],
    examples: Path | None,
    config: EvaluationConfig,
    seed: int,
    formats: dict[str, Path] | None = None,
    checked: dict[str, Path] | None = None,
) -> Results:
    """Everything the report shows, from the judgments alone: scoring again needs no model.

    Args:
        judgments: model -> its file or folder of judgments; the others are compared with the first.
        examples: folder of the rows asked about; not needed for files of `write_judgments`.
        config: benchmarks in the order shown, bootstrap, confidence and sample.
        seed: of the bootstrap and the `random` protocol.
        formats: model -> its judgments in further prompt formats (`formats.prepare_formats`).
        checked: model -> folder of its checked critiques (`critique_check.segment_of`).

    Returns:
        `models` (model -> benchmark -> entry), `tasks` (model -> task -> entry), `comparison` (model ->
        against, benchmarks, tasks: each later model against the first), `other_comparisons` (a list of the same for any
        other two, with `model`), `robustness` (model -> pairwise benchmark -> entry), `bias` (the same; of absolute
        benchmarks self-preference alone), `critiques` (model -> entry), `overall` (model -> averages or why not) and
        `settings`; without NaN.

    Raises:
        UserError: judgments are missing, or a benchmark has none.
    """
    loaded = load_all(config.benchmarks)
    names = [benchmark.name for benchmark in loaded]
    pairs = [benchmark for benchmark in loaded if benchmark.task == "pairwise"]
    scored: dict[str, list[Scored]] = {}
    biases: dict[str, dict[str, Entry]] = {}
    of_pairs: dict[str, pd.DataFrame] = {}
    for model, path in judgments.items():
        frame = read_judgments(path, examples)
        scored[model] = [score(frame, benchmark, config, seed) for benchmark in loaded]
        of_pairs[model] = frame[frame["benchmark"].isin([benchmark.name for benchmark in pairs])]
        given = config.models.get(model, model)
        own = known_as(model, given if isinstance(given, str) else given.model)
        biases[model] = {
            name: bias(path, lines, own, config, seed) for name, lines in of_pairs[model].groupby("benchmark")
        }
        of_scores = frame[frame["benchmark"].isin([b.name for b in loaded if b.task == "absolute"])]
        biases[model] |= {
            name: bias_of_scores(lines, own, config, seed) for name, lines in of_scores.groupby("benchmark")
        }
    further = {model: read_judgments(path) for model, path in (formats or {}).items()}
    first = next(iter(scored))
    results = {
        "models": {model: dict(zip(names, (s.entry for s in each), strict=True)) for model, each in scored.items()},
        "tasks": {model: by_task(loaded, each, config) for model, each in scored.items()},
        "comparison": {
            model: {"against": first, **compare(loaded, each, scored[first], (model, first), config, seed)}
            for model, each in scored.items()
            if model != first
        },
        "other_comparisons": [
            {"model": one, "against": two, **compare(loaded, scored[one], scored[two], (one, two), config, seed)}
            for two, one in combinations(list(scored)[1:], 2)
        ],
        "robustness": robustness(of_pairs, further, pairs, config, seed),
        "bias": {model: {name: per[name] for name in names if name in per} for model, per in biases.items()},
        "critiques": {model: critique_consistency(path, seed) for model, path in (checked or {}).items()},
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
        value, draws = mean([entry["value"] for entry in entries]), mean_draws([s.draws for s in mine])
        low, high = None, None
        if value is not None and draws is not None:
            low, high = intervals.percentile(draws, config.confidence)
        tasks[task] = {
            "n": sum(entry["n"] for entry in entries),
            "metric": METRIC_OF_TASK[task],
            "value": value,
            "ci_low": low,
            "ci_high": high,
            "accuracy": mean([entry["accuracy"] for entry in entries]),
            "pearson": mean([entry["pearson"] for entry in entries]) if task == "absolute" else None,
            "parse_rate": sum(entry["parse_rate"] * entry["judgments"] for entry in entries) / judged,
            "partial": any(entry["partial"] for entry in entries),
            "benchmarks": [b.name for b in benchmarks if b.task == task],
        }
    return tasks


def overall(benchmarks: list[Benchmark], scored: list[Scored]) -> Entry:
    """The paper's averages, mean of 11 and mean of three task means; none unless all 11 are whole."""
    whole = {b.name: s.entry for b, s in zip(benchmarks, scored, strict=True) if not s.entry["partial"]}
    missing = [name for name in PAPER_BENCHMARKS if name not in whole or whole[name]["value"] is None]
    if missing:
        why = f"{len(missing)} of the paper's {len(PAPER_BENCHMARKS)} benchmarks are not here whole"
        return {"benchmarks": None, "tasks": None, "missing": missing, "why": why}
    means = [
        mean([whole[name]["value"] for name in PAPER_BENCHMARKS if whole[name]["task"] == task])
        for task in METRIC_OF_TASK
    ]
    values = [whole[name]["value"] for name in PAPER_BENCHMARKS]
    return {"benchmarks": mean(values), "tasks": mean(means), "missing": [], "why": ""}


def settings(benchmarks: list[Benchmark], config: EvaluationConfig, seed: int) -> Entry:
    """Every protocol and value the figures depend on."""
    return {
        "seed": seed,
        **config.model_dump(mode="json"),
        "protocols": {
            "headline": "pairwise: mean of both orders; classification: accuracy; absolute: Pearson's r",
            "asked for": ASKED_FOR[config.format].format(config.max_tokens),
            "unparsed": "a verdict that cannot be read is wrong; Pearson takes the scale's middle for it",
            "interval": "percentile bootstrap that draws groups of rows of one instruction and context",
            "tasks": "unweighted mean over the benchmarks of the task",
            "formats": "the same pairs and orders in every prompt format; spread is the best value minus the worst",
            "position": "primacy and recency: among pairs whose two verdicts, both read, contradict each other",
            "length": "accuracy where the longer response is right minus where it is not; lengths in characters",
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
