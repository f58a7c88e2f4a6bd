"""The calibration as a page and as an experiment: question, figures, the ranking as decisions, and a plot."""

from __future__ import annotations

from importlib import metadata
from typing import Any

from pipelines.core.run import Run
from pipelines.evaluation.report.plots import Point
from pipelines.experiments import pages
from pipelines.experiments.calibrate.config import CalibrateConfig
from pipelines.experiments.calibrate.coverage import Coverage
from pipelines.experiments.calibrate.estimate import Estimates, Mean
from pipelines.experiments.calibrate.rows import Read, prompts_of
from pipelines.experiments.calibrate.values import Judged
from pipelines.experiments.records import record
from pipelines.experiments.records.forest import forest
from pipelines.experiments.records.record import Cost, Decision, Experiment, Figure

NAME = "calibrate"
TITLE = "Judged systems, calibrated by labels"
WAYS = {"calibrated": "calibrated", "naive": "naive", "labels_only": "labels only"}


def page(
    found: Read, estimates: Estimates, covered: list[Coverage], config: CalibrateConfig, check: float | None
) -> str:
    """The page as text."""
    values: dict[str, Any] = {
        "title": TITLE,
        "found": estimates,
        "coverage": covered,
        "judge": config.judge or "a judge that is not named",
        "labelled_by": config.labelled_by,
        "level": config.level,
        "draws": config.coverage.draws,
        "share": config.coverage.share,
        "p_random": check,
        "lost": list(found.reasons.items()),
        "version": metadata.version("cje-eval"),
    }
    return pages.render(__package__ or "", "calibrate.html.j2", **values, **counts(found.rows))


def write(
    run: Run, found: Read, estimates: Estimates, covered: list[Coverage], config: CalibrateConfig, seconds: float
) -> None:
    """Write experiment.json, table.csv and plot.svg beside the page.

    Args:
        run: whose experiment it is.
        found: what was read.
        estimates: of the systems.
        covered: coverage, where it was measured.
        config: of the job.
        seconds: that estimates and draws took.
    """
    means = [estimates.total, *estimates.means]
    experiment = Experiment(
        name=NAME,
        title=TITLE,
        question="How good are these systems in people's eyes, and which is better?",
        rule=(
            f"A system gets a mean and a place with {config.least_labels} labels of its own; one is better than "
            f"another where Holm's p over all pairs is below {1 - config.level:.2g}."
        ),
        settings={**config.identity(), **counts(found.rows), "cje-eval": metadata.version("cje-eval")},
        seeds=[run.seed],
        figures=[figure for mean in means for figure in figures_of(mean)] + [coverage_figure(one) for one in covered],
        decisions=decisions(estimates),
        cost=Cost(seconds=seconds, trials=config.coverage.draws),
        notes=[f"Scores by {config.judge or 'a judge that is not named'}; labels by {config.labelled_by}."],
        links={"page": "calibrate.html"},
    )
    record.write(run, experiment, table(means, covered), plot(means))


def figures_of(mean: Mean) -> list[Figure]:
    """The mean of a system in three ways."""
    figures = []
    for way, name in WAYS.items():
        one, note = getattr(mean, way), mean.refused if way == "calibrated" else ""
        n = mean.labels if way == "labels_only" else mean.n
        values: dict[str, Any] = {"value": one.value, "ci_low": one.low, "ci_high": one.high, "n": n}
        figures.append(Figure(name=f"mean, {name}", of=mean.system, note=f"refused: {note}" if note else "", **values))
    return figures


def coverage_figure(one: Coverage) -> Figure:
    """How often one way's intervals hold the truth."""
    values: dict[str, Any] = {"value": one.covered, "ci_low": one.ci_low, "ci_high": one.ci_high, "n": one.draws}
    note = f"{one.refused} draws refused" if one.refused else ""
    return Figure(name=f"coverage, {WAYS[one.way]}", of=one.of, note=note, **values)


def decisions(estimates: Estimates) -> list[Decision]:
    """The ranking, and who has no place in it."""
    found = []
    for place in estimates.ranking:
        surely = f"place {place.best}" if place.best == place.worst else f"places {place.best} to {place.worst}"
        why = f"{surely} of {len(estimates.ranking)} by the differences that are decided; naive place {place.naive}"
        found.append(Decision(about=place.system, verdict=f"rank {place.rank}", why=why))
    refused = [mean for mean in (estimates.total, *estimates.means) if mean.refused]
    return found + [Decision(about=mean.system, verdict="refused", why=mean.refused) for mean in refused]


def table(means: list[Mean], covered: list[Coverage]) -> list[dict[str, Any]]:
    """A line for each system, and for each coverage."""
    lines: list[dict[str, Any]] = []
    for mean in means:
        line: dict[str, Any] = {"of": mean.system, "rows": mean.n, "labels": mean.labels, "refused": mean.refused}
        for way in WAYS:
            one = getattr(mean, way)
            line |= {way: one.value, f"{way}_low": one.low, f"{way}_high": one.high}
        lines.append(line)
    return lines + [{f"coverage_{name}" if name != "of" else name: value for name, value in one} for one in covered]


def plot(means: list[Mean]) -> str:
    """The means of all systems, in three ways."""
    series = {
        name: [Point(getattr(mean, way).value, getattr(mean, way).low, getattr(mean, way).high) for mean in means]
        for way, name in WAYS.items()
    }
    middle = means[0].labels_only.value
    return forest({"mean label": series}, [mean.system for mean in means], NAME, none=middle or 0.0)


def counts(rows: list[Judged]) -> dict[str, int]:
    """Rows, systems, prompts and labels."""
    return {
        "n": len(rows),
        "systems": len({row.system for row in rows}),
        "prompts": sum(1 for _ in prompts_of(rows)),
        "labels": sum(row.label is not None for row in rows),
    }
