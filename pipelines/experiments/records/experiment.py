"""What an experiment is on disk: its record, and how that is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from pipelines.core import csv_text, storage
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.core.yaml_model import Strict, parse_model

RECORD, TABLE, PLOT, INDEX = "experiment.json", "table.csv", "plot.svg", "index.html"
Line = Mapping[str, Any]


class Figure(Strict):
    """One figure of an experiment, with its interval where there is one."""

    name: str
    """What was measured."""
    of: str = ""
    """Of what: a source, a system, a training."""
    value: float | None
    """None where it is undefined."""
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
    """Rows, pairs or seeds that it rests on."""
    p: float | None = None
    """p-value against the value of no effect, not corrected."""
    note: str = ""
    """What a reader must know of this figure alone."""


class Decision(Strict):
    """What follows from the figures, and from which."""

    about: str
    """A source, a system, a setting."""
    verdict: str
    """In the words of the rule, such as `include`."""
    why: str
    """The evidence in one sentence."""


class Cost(Strict):
    """What the experiment took."""

    seconds: float
    """Of all trials, each of the attempt that finished it."""
    trials: int = 0
    """Trainings, samples or draws."""
    tokens: int = 0
    """Read and written by models."""
    note: str = ""
    """On which machine, or what is not counted."""


class Experiment(Strict):
    """An experiment from its question to its decision."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    """Its folder."""
    title: str
    question: str
    rule: str
    """How figures become decisions, in one sentence; fixed before the figures were known."""
    settings: dict[str, Any]
    """Whatever the figures depend on."""
    seeds: list[int]
    figures: list[Figure]
    decisions: list[Decision]
    cost: Cost
    notes: list[str] = Field(default_factory=list)
    """Limits: small budgets, stand-ins, what was left out and why."""
    judge: Literal["model", "stand-in", "none"] = "model"
    """Whether a model judged, or something cheap that only imitates one: figures of a stand-in say nothing of a
    model."""
    links: dict[str, str] = Field(default_factory=dict)
    """Title -> file in the experiment's folder, or beside it: pages, mixture files."""


def folder_of(run: Run, name: str) -> Place:
    """Where an experiment's files are."""
    return run.experiments / name


def read(folder: Place) -> Experiment:
    """The record of a folder.

    Raises:
        UserError: there is none, or it is not one of ours.
    """
    place = folder / RECORD
    if not storage.exists(place):
        raise UserError("no such experiment", where=str(folder), fix="run it first")
    try:
        raw = storage.read_json(place)
    except ValueError:
        raise UserError("is not JSON", where=str(place), fix="remove it, and run the experiment again") from None
    if not isinstance(raw, dict):
        raise UserError("is not a record of an experiment", where=str(place), fix="move it away")
    return parse_model(Experiment, raw, where=str(place))


def read_all(run: Run) -> list[Experiment]:
    """The records of a run's experiments, by name.

    Raises:
        UserError: one is not ours.
    """
    return [read(place.parent) for place in storage.find(run.experiments, RECORD)]


def to_csv(table: Sequence[Line]) -> str:
    """The table as a file's text; what a line lacks is empty."""
    names = list(dict.fromkeys(name for line in table for name in line))
    return csv_text.written([names, *([line.get(name, "") for name in names] for line in table)])


def read_csv(place: Place) -> list[list[str]]:
    """The lines of a table, the names of the columns first; none where there is no file."""
    return csv_text.read(storage.read_text(place)) if storage.exists(place) else []
