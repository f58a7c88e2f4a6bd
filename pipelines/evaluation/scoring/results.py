"""The results of an evaluation: every model and benchmark, the task types, and the models compared."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd
from pydantic import model_serializer, model_validator

from pipelines.core.storage import Place
from pipelines.evaluation.asking.benchmark_rows import benchmarks_of
from pipelines.evaluation.asking.critique_check import critique_consistency
from pipelines.evaluation.asking.judgments import read_judgments
from pipelines.evaluation.benchmarks.registry import PAPER_BENCHMARKS, Benchmark
from pipelines.evaluation.config import EvaluationConfig
from pipelines.evaluation.scoring.bias import Bias, bias, bias_of_scores
from pipelines.evaluation.scoring.comparison import Comparison, compare
from pipelines.evaluation.scoring.entries import BenchmarkEntry
from pipelines.evaluation.scoring.figures import Figures, plain
from pipelines.evaluation.scoring.metrics.registry import require_metrics
from pipelines.evaluation.scoring.orders import PROTOCOLS
from pipelines.evaluation.scoring.robustness import Robustness, robustness
from pipelines.evaluation.scoring.score import Scored, score
from pipelines.evaluation.scoring.self_preference import known_as
from pipelines.evaluation.scoring.task_means import TaskEntry, by_task, mean
from pipelines.judging.tasks import TASKS

ASKED_FOR = {
    "cot": "a critique and a judgment, greedily, in at most {} tokens",
    "judgment_only": "a judgment without a critique, greedily, in at most {} tokens",
    "one_token": "the likeliest of the allowed verdicts at the one token after `Result:`; it can always be read",
}


class Rate(Figures):
    """A share of flagged critiques."""

    n: int
    flagged: int
    rate: float | None
    interval: tuple[float, float] | None


class CorrectedRate(Rate):
    """A share of flagged critiques, also with the checker's own errors taken out."""

    corrected: float | None
    corrected_interval: tuple[float, float] | None


class Critiques(Figures):
    """What a checker says of one model's critiques; see `critique_check.critique_consistency`."""

    negatives: Rate
    positives: Rate
    tells_apart: bool
    all: CorrectedRate
    benchmarks: dict[str, CorrectedRate]
    failed: int


class Overall(Figures):
    """The paper's averages over its eleven benchmarks, or `why` there are none."""

    benchmarks: float | None
    tasks: float | None
    missing: list[str]
    why: str


class About(Figures):
    """A benchmark in words."""

    about: str
    notes: str
    license: str
    expected_n: int
    packaged: bool = False


class Settings(Figures):
    """Every protocol and value the figures depend on; in JSON the config's keys are among the others."""

    seed: int
    config: EvaluationConfig
    protocols: dict[str, str]
    about: dict[str, About]

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, values: dict[str, Any]) -> dict[str, Any]:
        own = {name: value for name, value in values.items() if name in cls.model_fields}
        rest = {name: value for name, value in values.items() if name not in own}
        return own | ({"config": rest} if rest else {})

    @model_serializer
    def _flat(self) -> dict[str, Any]:
        about = {name: one.model_dump() for name, one in self.about.items()}
        return {
            "seed": self.seed,
            **self.config.model_dump(mode="json"),
            "protocols": self.protocols,
            "about": about,
        }


class Results(Figures):
    """Everything in results.json.

    Attributes:
        models: model -> benchmark -> figures.
        tasks: model -> task -> means over its benchmarks.
        comparison: each later model -> against the first.
        other_comparisons: any other two models.
        robustness: model -> benchmark of pairs -> prompt formats.
        bias: model -> benchmark -> biases.
        critiques: model -> what a checker says of its critiques.
        overall: model -> the paper's averages, or why there are none.
    """

    models: dict[str, dict[str, BenchmarkEntry]]
    tasks: dict[str, dict[str, TaskEntry]]
    comparison: dict[str, Comparison]
    other_comparisons: list[Comparison]
    robustness: dict[str, dict[str, Robustness]]
    bias: dict[str, dict[str, Bias]]
    critiques: dict[str, Critiques]
    overall: dict[str, Overall]
    settings: Settings

    def to_json(self) -> dict[str, Any]:
        """As in results.json: rounded, and null for what is not a finite number."""
        found: dict[str, Any] = plain(self.model_dump(exclude_unset=True))
        return found

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Results:
        """The results of a results.json."""
        return cls.model_validate(values)


def summarise(
    judgments: dict[str, Place],
    examples: Place | None,
    config: EvaluationConfig,
    seed: int,
    formats: dict[str, Place] | None = None,
    checked: dict[str, Place] | None = None,
) -> Results:
    """Everything the report shows, from the judgments alone: scoring again needs no model.

    Args:
        judgments: model -> its file or folder of judgments; the others are compared with the first.
        examples: folder of the rows asked about; not needed for files of `write_judgments`.
        config: benchmarks in the order shown, confidence and sample.
        seed: of the `random` protocol and the checker's draws.
        formats: model -> its judgments in further prompt formats.
        checked: model -> folder of its checked critiques.

    Raises:
        UserError: judgments are missing, a benchmark has none, or its metric is not known.
    """
    benchmarks = benchmarks_of(config)
    require_metrics(benchmarks)
    names = [benchmark.name for benchmark in benchmarks]
    pairs = [benchmark for benchmark in benchmarks if TASKS[benchmark.task].ordered]
    frames = {model: read_judgments(place, examples) for model, place in judgments.items()}
    scored = {model: [score(frame, one, config, seed) for one in benchmarks] for model, frame in frames.items()}
    further = {model: read_judgments(place) for model, place in (formats or {}).items()}
    first = next(iter(scored))

    def against(one: str, other: str) -> Comparison:
        return compare(benchmarks, scored[one], scored[other], (one, other), config)

    results = Results(
        models={model: dict(zip(names, (s.entry for s in each), strict=True)) for model, each in scored.items()},
        tasks={model: by_task(benchmarks, each, config) for model, each in scored.items()},
        comparison={model: against(model, first) for model in scored if model != first},
        other_comparisons=[
            against(one, two).model_copy(update={"model": one}) for two, one in combinations(list(scored)[1:], 2)
        ],
        robustness=robustness(frames, further, pairs, config, seed),
        bias={model: biases(model, judgments[model], frame, benchmarks, config) for model, frame in frames.items()},
        critiques={
            model: Critiques.model_validate(critique_consistency(place, seed))
            for model, place in (checked or {}).items()
        },
        overall={model: overall(benchmarks, each) for model, each in scored.items()},
        settings=settings(benchmarks, config, seed),
    )
    return Results.from_json(results.to_json())  # rounded: what is shown is what is written


def biases(
    model: str, place: Place, frame: pd.DataFrame, benchmarks: Sequence[Benchmark], config: EvaluationConfig
) -> dict[str, Bias]:
    """The biases of one model, by benchmark of pairs and of scores.

    Args:
        model: its name in the run.
        place: its judgments, for the responses.
        frame: its judgments.
        benchmarks: in the order shown.
        config: models and confidence.
    """
    given = config.models.get(model, model)
    own = known_as(model, given if isinstance(given, str) else given.model)
    found: dict[str, Bias] = {}
    for benchmark in benchmarks:
        lines, task = frame[frame["benchmark"] == benchmark.name], TASKS[benchmark.task]
        if task.ordered:
            found[benchmark.name] = bias(place, lines, own, config.confidence)
        elif task.scored:
            found[benchmark.name] = bias_of_scores(lines, own, config.confidence)
    return found


def overall(benchmarks: Sequence[Benchmark], scored: Sequence[Scored]) -> Overall:
    """The paper's averages, mean of 11 and mean of three task means; none unless all 11 are whole."""
    known = {b.name: s.entry for b, s in zip(benchmarks, scored, strict=True) if not s.entry.partial}
    whole = {name: known[name] for name in PAPER_BENCHMARKS if name in known and known[name].value is not None}
    missing = [name for name in PAPER_BENCHMARKS if name not in whole]
    if missing:
        why = f"{len(missing)} of the paper's {len(PAPER_BENCHMARKS)} benchmarks are not here whole"
        return Overall(benchmarks=None, tasks=None, missing=missing, why=why)
    means = [mean([entry.value for entry in whole.values() if entry.task == task]) for task in TASKS]
    values = [entry.value for entry in whole.values()]
    return Overall(benchmarks=mean(values), tasks=mean(means), missing=[], why="")


def settings(benchmarks: Sequence[Benchmark], config: EvaluationConfig, seed: int) -> Settings:
    """Every protocol and value the figures depend on."""
    return Settings(
        seed=seed,
        config=config,
        protocols={
            "headline": "pairwise: mean of both orders; classification: accuracy; absolute: Pearson's r",
            "asked for": ASKED_FOR[config.format].format(config.max_tokens),
            "unparsed": "a verdict that cannot be read is wrong for accuracy, balanced accuracy, macro-F1 and κ; "
            "Pearson, Spearman and Kendall take the mean of the judge's read scores for it, which tells no response "
            "from another; quadratic κ and calibration leave it out, as they need a verdict",
            "interval": "over groups of related rows (of one question, or of one instruction and context): Wilson's "
            "with an effective number of rows for accuracy, the jackknife on Fisher's z scale for Pearson",
            "differences": "on the same rows; the sentences of one comparison are tested together (Holm): the chance "
            "that one of them is wrong is at most 1 minus the confidence; any other pair of models is a comparison of "
            "its own",
            "tasks": "unweighted mean over the benchmarks of the task, without those whose rows are part of another; "
            "its interval treats the benchmarks as independent, although some share a few prompts",
            "consistency": "of the pairs read in both orders, how many name the same response: pairs with an unread "
            "verdict are left out, whereas LLMBar's authors count them",
            "formats": "the same pairs and orders in every prompt format; spread is the best value minus the worst",
            "position": "primacy and recency: among pairs whose two verdicts, both read, contradict each other",
            "length": "accuracy of read verdicts where the longer response is right minus where it is not; lengths in "
            "characters",
            "calibration": "ECE has no interval, and is too high with few judgments: some 0.05 to 0.1 at 50",
            **PROTOCOLS,
        },
        about={
            b.name: About(about=b.about, notes=b.notes, license=b.license, expected_n=b.expected_n, packaged=b.packaged)
            for b in benchmarks
        },
    )
