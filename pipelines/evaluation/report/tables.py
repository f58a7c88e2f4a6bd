"""What the page's sections on prompt formats, biases, calibration and official metrics show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipelines.evaluation.report import plots
from pipelines.evaluation.scoring.calibration import Bin
from pipelines.evaluation.scoring.entries import BenchmarkEntry, VerdictEntry
from pipelines.evaluation.scoring.results import Results
from pipelines.evaluation.scoring.robustness import Format, Robustness


@dataclass(frozen=True)
class FormatTable:
    """A benchmark that was asked in several prompt formats.

    Attributes:
        benchmark: its name.
        formats: name -> whether it is ours.
        models: model -> its figures.
        compared: the models that are compared with another.
        plot: one SVG element.
    """

    benchmark: str
    formats: dict[str, bool]
    models: dict[str, Robustness]
    compared: list[str]
    plot: Markup


@dataclass(frozen=True)
class OfficialValue:
    """One figure by the authors' own rule; without interval or rows where none are known."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class OfficialLine:
    """One figure by the authors' own rule, of every model; None where a model lacks it."""

    benchmark: str
    figure: str
    values: dict[str, OfficialValue | None]


def format_tables(results: Results) -> list[FormatTable]:
    """One table and plot for each benchmark that was asked in several formats."""
    tables: list[FormatTable] = []
    for benchmark in dict.fromkeys(name for per in results.robustness.values() for name in per):
        models = {model: per[benchmark] for model, per in results.robustness.items() if benchmark in per}
        formats = {name: entry.ours for each in models.values() for name, entry in each.formats.items()}
        points = {model: [_point(each.formats.get(name)) for name in formats] for model, each in models.items()}
        labels = [f"{name} (ours)" if ours else name for name, ours in formats.items()]
        compared = [model for model, each in models.items() if any(one.against for one in each.formats.values())]
        # Drawn here, and its texts escaped by matplotlib.
        metric = next(iter(results.models.values()))[benchmark].metric
        plot = Markup(plots.headline(labels, points, [None] * len(labels), f"formats{len(tables)}", metric))
        tables.append(FormatTable(benchmark, formats, models, compared, plot))
    return tables


def reliability(results: Results) -> list[tuple[str, Markup]]:
    """(benchmark, plot) of the benchmarks whose judgments have probabilities."""
    drawn: list[tuple[str, Markup]] = []
    for name in next(iter(results.models.values())):
        entries = {model: per[name] for model, per in results.models.items()}
        bins = {model: one.calibration.bins for model, one in entries.items() if isinstance(one, VerdictEntry)}
        if any(bins.values()):
            drawn.append((name, Markup(plots.reliability(bins, f"reliability{len(drawn)}"))))
    return drawn


def share_right(bins: Sequence[Bin]) -> float | None:
    """Accuracy over all bins of a reliability diagram."""
    n = sum(one.n for one in bins)
    return sum(one.n * one.accuracy for one in bins) / n if n else None


def self_preference_unknown(results: Results) -> dict[str, list[str]]:
    """Why self-preference is not known -> benchmarks of which no model's is."""
    why: dict[str, list[str]] = {}
    of_models = list(results.bias.values())
    for name in of_models[0] if of_models else ():
        found = [per[name].self_preference for per in of_models]
        if not any(one.available for one in found):
            why.setdefault(str(found[0].why), []).append(name)
    return why


def official_lines(results: Results) -> list[OfficialLine]:
    """The figures of each benchmark by its authors' own rules."""
    lines: dict[tuple[str, str], OfficialLine] = {}
    for model, per in results.models.items():
        for benchmark, entry in per.items():
            for figure, value in _official(entry).items():
                empty = OfficialLine(benchmark, figure, dict.fromkeys(results.models))
                lines.setdefault((benchmark, figure), empty).values[model] = value
    return list(lines.values())


def _official(entry: BenchmarkEntry) -> dict[str, OfficialValue]:
    found: dict[str, OfficialValue] = {}
    if not isinstance(entry, VerdictEntry):
        return found
    for name, part in (entry.sections or {}).items():
        found[f"section {name}"] = OfficialValue(part.value, part.ci_low, part.ci_high, part.n)
    for name, value in (entry.authors or {}).items():
        parts = {f"{name}, {part}": v for part, v in value.items()} if isinstance(value, dict) else {name: value}
        found |= {f"authors: {part}": OfficialValue(v) for part, v in parts.items()}
    if rows := entry.balanced:
        figures = {"accuracy": rows.accuracy, "balanced_accuracy": rows.balanced_accuracy, "kappa": rows.kappa}
        found |= {f"balanced rows: {name}": OfficialValue(value, n=rows.n) for name, value in figures.items()}
    return {name.replace("_", " "): value for name, value in found.items()}


def _point(entry: Format | None) -> plots.Point:
    return plots.Point(entry.value, entry.ci_low, entry.ci_high) if entry else plots.Point(None, None, None)
