"""The leaks as an experiment: question, figures, what was kept out of each file, and a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipelines.core.run import Run
from pipelines.evaluation.report.plots import COLOURS, svg
from pipelines.experiments.leaks import report
from pipelines.experiments.records import record
from pipelines.experiments.records.record import Cost, Decision, Experiment, Figure

if TYPE_CHECKING:
    import matplotlib.figure

NAME = "leaks"


def write(run: Run, found: report.Report, settings: dict[str, Any], seconds: float) -> None:
    """Write experiment.json, table.csv and plot.svg beside the page.

    Args:
        run: whose experiment it is.
        found: of `report.summarise`.
        settings: what counted as a leak.
        seconds: that reading and searching took.
    """
    hits = {name: kinds for name, kinds in found["found"].items() if kinds}
    figures = [
        Figure(name=f"rows with a hit: {kind}", of=name, value=one["rows"], n=found["rows"])
        for name, kinds in hits.items()
        for kind, one in kinds.items()
    ]
    out = ", ".join(kind.replace("_", " ") for kind in settings["keep_out"])
    decisions = [
        Decision(
            about=one["file"],
            verdict=f"keep {one['leaks']} rows out" if one["leaks"] else "keep all",
            why=f"{one['leaks']} of {one['rows']} rows have a hit of these kinds; {one['errors']} could not be read",
        )
        for one in found["files"]
    ]
    experiment = Experiment(
        name=NAME,
        title="Leaks of benchmarks into training sets",
        question="Which rows of these training sets are rows of a benchmark?",
        rule=f"A row is kept out if it has a hit of one of these kinds: {out or 'none'}.",
        settings=settings,
        seeds=[run.seed],
        figures=figures,
        decisions=decisions,
        cost=Cost(seconds=seconds, note="of the attempts that finished the steps"),
        notes=notes(found, settings),
        judge="none",
        links={"examples": report.PAGE, "all hits": report.HITS},
    )
    table = [
        {"benchmark": name, "kind": kind, "rows": one["rows"], "benchmark_texts": one["texts"]}
        for name, kinds in hits.items()
        for kind, one in kinds.items()
    ]
    record.write(run, experiment, table, plot(hits))


def notes(found: report.Report, settings: dict[str, Any]) -> list[str]:
    """What was not looked at."""
    said = []
    if settings["embedding"] and found["embedded"] < found["rows"]:
        said.append(f"Embeddings: {found['embedded']} of {found['rows']} rows were looked at, chosen by hash.")
    if found["errors"]:
        said.append(f"{found['errors']} rows could not be read, and were compared with nothing.")
    if found["without_text"]:
        least = settings["least_words"]
        said.append(f"{found['without_text']} rows have no text of {least} words, and were compared with nothing.")
    return said


def plot(hits: dict[str, dict[str, Any]]) -> str:
    """Rows with a hit, a bar for each benchmark and kind."""
    kinds = [kind for kind in report.KINDS if any(kind in one for one in hits.values())]

    def draw(figure: matplotlib.figure.Figure) -> None:
        axes = figure.subplots()
        height = 0.8 / max(len(kinds), 1)
        for number, kind in enumerate(kinds):
            rows = [one.get(kind, {}).get("rows", 0) for one in hits.values()]
            places = [place + (number - (len(kinds) - 1) / 2) * height for place in range(len(hits))]
            colour = COLOURS[(number + 1) % len(COLOURS)]
            axes.barh(places, rows, height=height * 0.9, color=colour, label=kind.replace("_", " "))
        axes.set_yticks(range(len(hits)), list(hits))
        axes.set_ylim(len(hits) - 0.4, -0.6)
        axes.set_xlabel("rows of the sets with a hit" if hits else "no row has a hit")
        axes.tick_params(length=0)
        if kinds:
            figure.legend(loc="outside upper left", ncols=3)

    return svg(NAME, draw, 1.2 + 0.4 * len(hits))
