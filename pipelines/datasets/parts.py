"""Big inputs in parts that are read apart: bytes of JSON Lines, row groups of parquet, shards of a hub dataset.

A record belongs to the part in which it begins, and keeps its number and line of the whole input: so do its ids, its
place in a sample and the messages about it. Rows do not depend on how an input was divided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pipelines.core import storage
from pipelines.core.errors import unreadable
from pipelines.datasets.hub_rows import hub_stream, read_hub
from pipelines.datasets.json_records import count_range, lines_apart
from pipelines.datasets.opened import compression
from pipelines.datasets.part import Part
from pipelines.datasets.readers import Input, row_groups, source_format
from pipelines.datasets.spec import DatasetSpec

PART_BYTES = 64 * 2**20  # a few seconds of work; smaller files are a task each
HUB_PARTS = 32  # each asks the hub which files there are, and it counts requests


@dataclass(frozen=True)
class Division:
    """How an input is read.

    Attributes:
        parts: of it, or the input itself.
        size: bytes of its file; 0 of a hub dataset.
        whole_because: why a big one is read by one task, in a few words; empty for others.
    """

    parts: Sequence[Input]
    size: int = 0
    whole_because: str = ""


@dataclass(frozen=True)
class Held:
    """What a part holds.

    Attributes:
        records: that begin in it.
        lines: that begin in it.
        problem: what, where and fix of the UserError, when it cannot be read.
    """

    records: int = 0
    lines: int = 0
    problem: tuple[str, str, str] | None = None


def divide(spec: DatasetSpec, source: Input, size: int | None = None) -> Division:
    """Divide an input that is bigger than `size` bytes; one that cannot be read is left to its reader's complaint.

    Args:
        spec: of its source.
        source: the input.
        size: of a part, about; None for `PART_BYTES`.
    """
    size = size or PART_BYTES
    try:
        if source.path is None:
            return _shards(spec, source)
        own = storage.size(source.path)
        if own <= size:
            return Division([source], own)
        parts, why = _file_parts(spec, source, own, size)
        return Division([replace(source, part=part) for part in parts] or [source], own, "" if parts else why)
    except Exception:  # of a file, a store or the hub: whoever reads it says what is wrong
        return Division([source])


def _file_parts(spec: DatasetSpec, source: Input, own: int, size: int) -> tuple[list[Part], str]:
    assert source.path is not None
    if spec.loader and not source.fetched:
        return [], "a loader reads it"
    if codec := compression(source.path):
        return [], f"{codec} can only be unpacked from its beginning"
    match known := source_format(spec, source):
        case "parquet":
            parts = _row_groups(source, size)
            return (parts, "") if len(parts) > 1 else ([], "it has one row group")
        case "json" | "jsonl" if spec.records is None and lines_apart(source.path, spec.encoding, known == "jsonl"):
            return [Part(start, min(start + size, own)) for start in range(0, own, size)], ""
        case "json" | "jsonl":
            return [], "it is not one record a line in UTF-8 or another encoding of bytes"
        case "csv" | "tsv":
            return [], "a cell in quotation marks may hold line ends"
        case _:
            return [], "a workbook is read as a whole"


def _row_groups(source: Input, size: int) -> list[Part]:
    """Neighbouring row groups, of about `size` bytes together when unpacked."""
    assert source.path is not None
    groups = row_groups(source.path)
    bounds, filled = [0], 0
    for number, (_, unpacked) in enumerate(groups):
        if filled and filled + unpacked > size:
            bounds.append(number)
            filled = 0
        filled += unpacked
    rows = [count for count, _ in groups]
    return [
        Part(start, end, records=sum(rows[start:end]), first=sum(rows[:start]))
        for start, end in pairwise([*bounds, len(rows)])
    ]


def _shards(spec: DatasetSpec, source: Input) -> Division:
    assert spec.hub is not None
    count = hub_stream(spec.hub).num_shards
    if count < 2:
        return Division([source])
    pieces = min(count, HUB_PARTS)
    bounds = pairwise(count * number // pieces for number in range(pieces + 1))
    return Division([replace(source, part=Part(start, end)) for start, end in bounds])


def measure(spec: DatasetSpec, source: Input) -> Held:
    """Count what a part holds, without parsing it.

    Raises:
        UserError: it cannot be read.
    """
    part = source.part
    assert part is not None
    if part.records is not None:
        return Held(part.records)
    if source.path is None:
        assert spec.hub is not None
        return Held(sum(1 for _ in read_hub(spec.hub, spec.files, part)))
    try:
        return Held(*count_range(source.path, part.start, part.end))
    except OSError as exc:
        raise unreadable(source.path, source_format(spec, source), exc) from None


def placed(parts: Sequence[Input], held: Sequence[Held]) -> list[Input]:
    """All parts of one input in order, each with what it holds and where in the input it begins."""
    found: list[Input] = []
    first, line = 0, 1
    for source, own in zip(parts, held, strict=True):
        assert source.part is not None
        found.append(replace(source, part=replace(source.part, records=own.records, first=first, line=line)))
        first, line = first + own.records, line + own.lines
    return found


def shown(spec: DatasetSpec, source: Input) -> str | None:
    """For `--dry-run`: how a big input is read; None for one that is a task as it is."""
    found = divide(spec, source)
    if len(found.parts) > 1:
        big = f"{found.size / 1e6:,.0f} MB" if found.size else "shards"
        return f"{source.name}: {big}, read in {len(found.parts)} parts at once"
    if found.whole_because:
        return f"{source.name}: {found.size / 1e6:,.0f} MB, read by one task: {found.whole_because}"
    return None
