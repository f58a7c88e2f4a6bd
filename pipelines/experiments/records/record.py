"""What an experiment leaves behind: `experiment.json`, a table, a plot, and its place in one index of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.core import storage
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.experiments.records.experiment import (
    INDEX,
    PLOT,
    RECORD,
    TABLE,
    Cost,
    Decision,
    Experiment,
    Figure,
    Line,
    folder_of,
    read,
    read_all,
    read_csv,
    to_csv,
)
from pipelines.experiments.records.index import write_index

__all__ = [
    "INDEX",
    "PLOT",
    "RECORD",
    "TABLE",
    "Cost",
    "Decision",
    "Experiment",
    "Figure",
    "folder_of",
    "read",
    "read_all",
    "read_csv",
    "withdraw",
    "write",
]


def write(run: Run, experiment: Experiment, table: Sequence[Line], plot: str) -> Place:
    """Write an experiment's folder, and the index of all experiments again.

    Args:
        run: whose experiment it is.
        experiment: the record.
        table: its lines; the columns are those of all lines, in the order in which they come.
        plot: an `<svg>` element as text (`evaluation.report.plots.svg`).

    Returns:
        The folder.
    """
    folder = folder_of(run, experiment.name)
    storage.write_text(folder / TABLE, to_csv(table))
    storage.write_text(folder / PLOT, plot)
    # Last: the index shows what has a record.
    storage.write_json(folder / RECORD, experiment.model_dump(mode="json"))
    write_index(run)
    return folder


def withdraw(run: Run, name: str) -> None:
    """Remove an experiment's record, table and plot, and take it out of the index; nothing happens where it has none.

    Args:
        run: whose experiment it is.
        name: its folder, in which all else stays.
    """
    folder = folder_of(run, name)
    if not storage.exists(folder / RECORD):
        return
    for one in (RECORD, TABLE, PLOT):
        storage.remove_file(folder / one)
    write_index(run)
