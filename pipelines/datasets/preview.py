"""A look at a source before anything is started for it: a few rows as they will be, labels, and why others fail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from pipelines.core.errors import UserError
from pipelines.core.records import OK, Row
from pipelines.core.storage import Place
from pipelines.datasets.parts import shown
from pipelines.datasets.readers import inputs, read_input
from pipelines.datasets.reading import Reading
from pipelines.datasets.spec import DatasetSpec

ROWS = 3  # shown in full
RECORDS = 200  # read of each file
FILES = 20  # opened
REASONS = 3
WIDTH = 60  # characters of a text
HINTS = {
    "error:invalid_utf8": " (if the file has another encoding, name it with `encoding`, such as cp1252)",
    "error:invalid_json": " (if the file is no JSON, say so with `format`)",
}


def preview(spec: DatasetSpec, data_root: Place | None) -> list[str]:
    """What the first records of a source's files become, line by line.

    Raises:
        UserError: a file is missing or cannot be read, or code that the source names cannot be imported.
    """
    found = inputs(spec, data_root)
    try:
        return look([Reading(spec, one, data_root) for one in found])
    except UserError as exc:
        if all(one.path is not None for one in found):
            raise
        return [f"not looked at: {exc}"]  # the hub may be reachable where the job runs


def look(readings: Sequence[Reading]) -> list[str]:
    """What the first records of some inputs become, line by line.

    Raises:
        UserError: one cannot be read.
    """
    rows = [row for one in readings[:FILES] for row in _first_rows(one)]
    good = [row for row in rows if row["status"] == OK]
    unread = f", {len(readings) - FILES} further files not opened" if len(readings) > FILES else ""
    lines = [f"first {len(rows)} rows{unread}: {len(good)} can be used{_labels(good)}"]
    commonest = _commonest(row["status"] for row in rows if row["status"] != OK)
    lines += [line for one in readings[:FILES] if (line := shown(one.spec, one.input))]
    lines += [f"{n} times {status}{HINTS.get(status, '')}" for status, n in commonest]
    return lines + [_shown(row) for row in good[:ROWS]]


def _first_rows(reading: Reading) -> Iterable[Row]:
    for raw in islice(read_input(reading.spec, reading.input, reading.data_root), RECORDS):
        yield from reading.adapt(reading.spec, raw)


def _labels(rows: list[Row]) -> str:
    rows = [row for row in rows if row["verdict"] is not None]  # what is to be judged has none
    counts = Counter(row["verdict"] for row in rows)
    strange = {row["verdict"] for row in rows if row["verdict"] not in row["allowed"]}
    named = [f"{label}: {n}" + (" (not allowed)" if label in strange else "") for label, n in counts.most_common(12)]
    return f" ({', '.join(named)}{', ...' if len(counts) > 12 else ''})" if counts else ""


def _commonest(statuses: Iterable[str]) -> list[tuple[str, int]]:
    """The commonest reasons, each by the first status that has it."""
    full: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for status in statuses:
        reason = ":".join(status.split(":")[:3])
        full.setdefault(reason, status)
        counts[reason] += 1
    return [(full[reason], n) for reason, n in counts.most_common(REASONS)]


def _shown(row: Row) -> str:
    texts = [("instruction", row["instruction"]), ("context", row["context"]), ("reference", row["reference"])]
    texts += [("response", response) for response in row["responses"]]
    parts = [f"{name}: {_short(text)}" for name, text in texts if text]
    said = "one" if row["verdict"] is None else row["verdict"]
    return " | ".join([f"{said} of {', '.join(row['allowed'])}", *parts])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else f"{line[:WIDTH]}..."
