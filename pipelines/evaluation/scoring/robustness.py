"""How much a judge's figures move with the format of the prompt (§3.2.2, Figure 3b)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from pipelines.evaluation.asking.prompt_formats import FORMATS, OURS
from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.config import EvaluationConfig
from pipelines.evaluation.scoring.comparison import Difference, compare
from pipelines.evaluation.scoring.figures import Figures
from pipelines.evaluation.scoring.score import Scored, score
from pipelines.judging.tasks import PAIRWISE


class Format(Figures):
    """One model on one benchmark in one prompt format; `against`: the first model in the same format."""

    template: str
    n: int
    value: float | None
    ci_low: float | None
    ci_high: float | None
    parse_rate: float | None
    ours: bool
    against: Difference | None


class Robustness(Figures):
    """One model on one benchmark over prompt formats; `spread` is the best value minus the worst."""

    formats: dict[str, Format]
    best: str
    worst: str
    spread: float | None
    worst_value: float | None


def robustness(
    judged: Mapping[str, pd.DataFrame],
    further: Mapping[str, pd.DataFrame],
    benchmarks: Sequence[Benchmark],
    config: EvaluationConfig,
    seed: int,
) -> dict[str, dict[str, Robustness]]:
    """Every model on every benchmark that was asked in several formats.

    Args:
        judged: model -> its judgments in the run's own format; models are compared with the first.
        further: model -> its judgments in other formats, told apart by `template`.
        benchmarks: pairwise ones; those without judgments in other formats are left out.
        config: confidence and sample.
        seed: of the `random` protocol.

    Returns:
        model -> benchmark -> its figures.
    """
    scored: dict[str, dict[str, dict[str, Scored]]] = {}
    for model, other in further.items():
        lines = pd.concat([judged[model], other], ignore_index=True)
        scored[model] = {
            benchmark.name: {
                format_name(str(template)): score(part, benchmark, config, seed)
                for template, part in lines[lines["benchmark"] == benchmark.name].groupby("template")
            }
            for benchmark in benchmarks
            if (other["benchmark"] == benchmark.name).any()
        }
    first = next(iter(judged))
    return {
        model: {
            benchmark.name: _of_formats(benchmark, model, first, scored, config)
            for benchmark in benchmarks
            if benchmark.name in per
        }
        for model, per in scored.items()
    }


def format_name(template: str) -> str:
    """What a template is called among the formats; `compact` for `pairwise_compact`, which is none of the paper's."""
    return template.removeprefix(f"{PAIRWISE.name}_")


def _of_formats(
    benchmark: Benchmark,
    model: str,
    first: str,
    scored: Mapping[str, Mapping[str, Mapping[str, Scored]]],
    config: EvaluationConfig,
) -> Robustness:
    mine, base = scored[model][benchmark.name], scored.get(first, {}).get(benchmark.name, {})
    order = [name for name in FORMATS if name in mine] + sorted(set(mine) - set(FORMATS))
    formats: dict[str, Format] = {}
    for name in order:
        against = None
        if model != first and name in base:
            compared = compare([benchmark], [mine[name]], [base[name]], (model, first), config)
            against = compared.benchmarks[benchmark.name]
        entry = mine[name].entry
        formats[name] = Format(
            template=entry.template,
            n=entry.n,
            value=entry.value,
            ci_low=entry.ci_low,
            ci_high=entry.ci_high,
            parse_rate=entry.parse_rate,
            ours=name in OURS or name not in FORMATS,
            against=against,
        )
    # A metric may be undefined in a format: the worst one, and written as null.
    values = {name: -math.inf if one.value is None else one.value for name, one in formats.items()}
    best, worst = max(order, key=values.__getitem__), min(order, key=values.__getitem__)
    spread, worst_value = values[best] - values[worst], values[worst]
    return Robustness(formats=formats, best=best, worst=worst, spread=spread, worst_value=worst_value)
