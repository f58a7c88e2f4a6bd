"""Labels of a file, joined to judged rows by id; a label that seems to be meant for another row is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.core.csv_text import unmarked
from pipelines.core.errors import UserError, one_line
from pipelines.core.run import Run
from pipelines.datasets.readers import read_raw
from pipelines.datasets.spec import DatasetSpec
from pipelines.experiments.calibrate.values import Judged, given, number

SHOWN = 60  # characters of a prompt in a message of one line


@dataclass(frozen=True)
class Label:
    """A label, and what the record says of its row.

    Attributes:
        value: the label.
        where: file and line.
        about: `prompt` and `system`, where the record has them.
    """

    value: float
    where: str
    about: Mapping[str, str]


def labels_of(spec: DatasetSpec, run: Run) -> dict[str, Label]:
    """Id -> label; a record whose label is blank has none, and one whose id is blank too is an empty line.

    Raises:
        UserError: a record has no id and label, or an id comes twice.
    """
    found: dict[str, Label | None] = {}
    for raw in read_raw(spec, run.data_root):
        try:
            named, label = given(raw.value["id"]), given(raw.value["label"])
            if named is None and label is None:
                continue
            if named is None:
                raise ValueError("no id")
            value = None if label is None else number(label)
        except (KeyError, TypeError, ValueError) as exc:
            fix = "each record needs an id and a label, which may be empty"
            raise UserError(f"is no label: {one_line(exc)}", where=raw.where, fix=fix) from None
        named = unmarked(str(named).strip())
        if named in found:
            raise UserError(f"id {named!r} comes twice", where=raw.where)
        found[named] = None if value is None else Label(value, raw.where, _about(raw.value))
    return {named: label for named, label in found.items() if label}


def _about(record: Mapping[str, Any]) -> dict[str, str]:
    """The columns of to_label.csv that say which row is meant."""
    told = {name: given(record.get(name)) for name in ("prompt", "system")}
    return {name: unmarked(str(value)) for name, value in told.items() if value is not None}


def labelled(rows: Sequence[Judged], labels: Mapping[str, Label]) -> list[Judged]:
    """The rows with labels of a file.

    Raises:
        UserError: an id is no row's, or that of several, or the label's prompt or system is not its row's.
    """
    count = Counter(row.id for row in rows)
    for named in labels:
        if count[named] != 1:
            raise UserError(f"id {named!r} is that of {count[named]} judged rows", where="calibrate.labels")
    for row in rows:
        for name, told in (labels[row.id].about if row.id in labels else {}).items():
            # A spreadsheet may change line ends and spaces.
            if told.split() != (own := getattr(row, name)).split():
                raise UserError(
                    f"the {name} of id {row.id!r} is {told[:SHOWN]!r} here, and {own[:SHOWN]!r} in the judged row",
                    where=labels[row.id].where,
                    fix=f"label the rows as they are now, or leave the column {name} out where it means something else",
                )
    return [replace(row, label=labels[row.id].value) if row.id in labels else row for row in rows]


def check_joinable(rows: Sequence[Judged]) -> None:
    """Refuse rows to which labels could not be joined, before anyone labels them.

    Raises:
        UserError: several rows have one id.
    """
    first: dict[str, Judged] = {}
    for row in rows:
        if (other := first.setdefault(row.id, row)) is not row:
            raise UserError(
                f"id {row.id!r} is that of several judged rows, such as {other.where} and {row.where}, so that labels "
                "cannot be joined by it",
                where="calibrate.fields.id",
                fix="name what differs from row to row, or none, which makes ids of system, prompt and score",
            )
