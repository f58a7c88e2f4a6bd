"""One page over all experiments of a run: question, decisions, figures, table, plot and cost; no script, no network."""

from __future__ import annotations

from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipelines.core import storage
from pipelines.core.progress import clock
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.experiments.records import experiment as files
from pipelines.experiments.records.experiment import Experiment

LONGEST = 60  # lines of a table that the page shows; the file has all


@dataclass(frozen=True)
class Shown:
    """An experiment as the page has it.

    Attributes:
        about: the files.
        header: names of the table's columns.
        lines: of the table, the first ones.
        more: lines that are left out.
        plot: the `<svg>` element.
    """

    about: Experiment
    header: list[str]
    lines: list[list[str]]
    more: int
    plot: str


def write_index(run: Run) -> Place:
    """Write OUT/experiments/index.html from what is in the folders; returns its place.

    Raises:
        UserError: a record is not ours.
    """
    place = run.experiments / files.INDEX
    storage.write_text(place, render([shown(run, one) for one in files.read_all(run)]))
    return place


def shown(run: Run, experiment: Experiment) -> Shown:
    """Read what stands beside a files."""
    folder = files.folder_of(run, experiment.name)
    header, *lines = files.read_csv(folder / files.TABLE) or [[]]
    plot = storage.read_text(folder / files.PLOT) if storage.exists(folder / files.PLOT) else ""
    return Shown(experiment, header, lines[:LONGEST], max(0, len(lines) - LONGEST), plot)


def render(experiments: list[Shown]) -> str:
    """The page as text. All that comes from data is escaped; plots are our own, their texts escaped by matplotlib."""
    environment = Environment(
        loader=PackageLoader("pipelines.experiments.records"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["clock"] = clock
    environment.filters["figure"] = lambda value: "–" if value is None else f"{value:.4g}"
    environment.filters["svg"] = Markup
    return environment.get_template("index.html.j2").render(experiments=experiments)
