"""report.html: one page that needs no network, with every figure, its interval and its protocol."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Protocol

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.core import storage
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.evaluation.benchmarks.registry import PAPER_BENCHMARKS
from pipelines.evaluation.report import plots, published_judges, tables
from pipelines.evaluation.report.history import (
    Ledger,
    LogLine,
    funnel_stages,
    reasons,
    training_log,
    training_panels,
)
from pipelines.evaluation.report.samples import KINDS, Sample, samples
from pipelines.evaluation.report.unread import UnreadLine, unread_lines
from pipelines.evaluation.scoring.entries import VerdictEntry
from pipelines.evaluation.scoring.orders import PROTOCOLS
from pipelines.evaluation.scoring.results import Results


class Bounds(Protocol):
    """Figures with a confidence interval."""

    @property
    def ci_low(self) -> float | None: ...
    @property
    def ci_high(self) -> float | None: ...


def write_report(results: Results, judgments: dict[str, Place], run: Run) -> Place:
    """Write the page and return its place.

    Args:
        results: what `summarise` gives.
        judgments: model -> its judgments, to show some.
        run: its training log and curation ledger are shown where they are there.
    """
    shown = samples(judgments, results.settings.seed)
    ledger = storage.read_json(run.ledger) if storage.exists(run.ledger) else None
    log, unread = training_log(run.training_log), unread_lines(judgments)
    storage.write_text(run.report, render_report(results, shown, log, ledger, unread))
    return run.report


def render_report(
    results: Results,
    shown: list[Sample],
    log: list[LogLine],
    ledger: Ledger | None,
    unread: Sequence[UnreadLine] = (),
) -> str:
    """The page as text. Everything that comes from data is escaped.

    Args:
        results: what `summarise` gives.
        shown: judgments to read (`samples`).
        log: lines of the training log.
        ledger: what is in ledger.json.
        unread: last lines of unread answers (`unread_lines`).
    """
    first = next(iter(results.models.values()))
    curve, stages = training_panels(log), funnel_stages(ledger)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            results=results,
            models=results.models,
            names=list(first),
            first=first,
            packaged=[name for name, about in results.settings.about.items() if about.packaged],
            unread=unread,
            partial={name: entry.partial_reasons for name, entry in first.items() if entry.partial},
            notes={name: number for number, name in enumerate(first, start=1)},
            pairwise=[name for name, entry in first.items() if isinstance(entry, VerdictEntry) and entry.orders],
            protocols=PROTOCOLS,
            pairs=[name for name, entry in next(iter(results.bias.values())).items() if entry.position],
            formats=tables.format_tables(results),
            reliability=tables.reliability(results),
            self_preference_unknown=tables.self_preference_unknown(results),
            official=tables.official_lines(results),
            headline=[Markup(chart) for chart in headline_plots(results)],  # its texts are escaped by matplotlib
            training=Markup(plots.training(*curve)) if curve else None,
            funnel=Markup(plots.funnel(stages)) if stages else None,
            losses=reasons(ledger),
            published=published_judges.with_ours(results),
            paper=PAPER_BENCHMARKS,
            shown=shown,
            kinds=KINDS,
        )
    )


def headline_plots(results: Results) -> list[str]:
    """A chart for each metric, with every model on every benchmark of it: correlations share no axis with accuracy."""
    entries, charts = next(iter(results.models.values())), []
    for number, metric in enumerate(dict.fromkeys(entry.metric for entry in entries.values())):
        mine = {name: entry for name, entry in entries.items() if entry.metric == metric}
        points = {
            model: [plots.Point(per[name].value, per[name].ci_low, per[name].ci_high) for name in mine]
            for model, per in results.models.items()
        }
        labels = [f"{name}{'*' if entry.partial else ''}" for name, entry in mine.items()]
        baseline = [entry.baseline for entry in mine.values()]
        charts.append(plots.headline(labels, points, baseline, f"headline{number}", metric))
    return charts


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipelines.evaluation.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure
    environment.filters["interval"] = interval
    environment.filters["share_right"] = tables.share_right
    environment.filters["percent"] = lambda value: "–" if value is None else f"{value:.1%}"
    return environment


def figure(value: float | None, signed: bool = False) -> str:
    """A number of the page; a dash where there is none."""
    return "–" if value is None else f"{value:+.3f}" if signed else f"{value:.3f}"


def interval(entry: Bounds, signed: bool = False) -> str:
    """The confidence interval of a figure, in brackets."""
    if entry.ci_low is None:
        why = getattr(entry, "no_interval", "")
        return f"no interval: {why}" if why else "no interval"
    return f"[{figure(entry.ci_low, signed)}, {figure(entry.ci_high, signed)}]"
