"""Read files into rows on Ray: raw records, adapted and written as parquet, one Ray task per file or part of a file.

Two passes over the inputs. The survey counts raw records and rows without adapting any, finds the smallest hashes where
a source is sampled, and meets every unreadable file; then the files are read, adapted and written. What is written must
balance against what the survey counted. Big inputs are divided before (`parts.py`): a quick pass that only counts.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pyarrow as pa

from pipelines.core import storage
from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.ledger import Entry, balance, count_rows, count_status
from pipelines.core.progress import watch
from pipelines.core.records import EXAMPLE, Row
from pipelines.core.stage import to_table
from pipelines.core.storage import Place
from pipelines.datasets.parts import Held, divide, measure, placed
from pipelines.datasets.readers import Input, inputs, read_input
from pipelines.datasets.spec import DatasetSpec, RawRecord, adapt, expand

TABLE_ROWS = 500
TABLE_BYTES = 16 * 2**20  # about; a table is handed on when either is reached
AT_ONCE = 16  # files looked at
Found = TypeVar("Found", "Survey", Held)
Counts = dict[str, dict[str, Any]]
Adapt = Callable[[DatasetSpec, RawRecord], list[Row]]


@dataclass(frozen=True)
class Reading:
    """One read task: an input of a source, and which of its rows are in scope.

    Attributes:
        spec: how its records become rows.
        input: the file, or hub dataset.
        data_root: folder of local files.
        seed: of the sample.
        last_key: greatest sample key that is in scope; None keeps every row.
        adapt: what makes the rows of one raw record.
        schema: of the rows.
    """

    spec: DatasetSpec
    input: Input
    data_root: Place | None
    seed: int = 0
    last_key: str | None = None
    adapt: Adapt = adapt
    schema: pa.Schema = EXAMPLE


@dataclass(frozen=True)
class Survey:
    """What one input holds.

    Attributes:
        records: raw records.
        rows: rows they expand into.
        keys: its smallest sample keys, at most as many as the sample has rows.
        problem: what, where and fix of the UserError, when the input cannot be read.
    """

    records: int = 0
    rows: int = 0
    keys: tuple[str, ...] = ()
    problem: tuple[str, str, str] | None = None


def unconfirmed(readings: list[Reading]) -> dict[str, str]:
    """Source -> what nobody has yet checked in its YAML file against the real data."""
    doubts: dict[str, str] = {}
    for reading in readings:
        hub = reading.spec.hub if reading.input.path is None else None
        if doubt := reading.spec.to_confirm or (hub.to_confirm if hub else ""):
            doubts[reading.spec.name] = doubt
    return doubts


def ingest_rows(spec: DatasetSpec, data_root: Place | None) -> Iterator[Row]:
    """Every row of a source, in order, with every Example column and a status; needs no cluster.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    for found in inputs(spec, data_root):
        yield from read_rows(Reading(spec, found, data_root))


def read_rows(reading: Reading) -> Iterator[Row]:
    """The rows in scope of one input."""
    for raw in read_input(reading.spec, reading.input, reading.data_root):
        if reading.last_key is None:
            yield from reading.adapt(reading.spec, raw)
            continue
        keys = sample_keys(reading.spec, raw, reading.seed)
        if min(keys) <= reading.last_key:
            rows = reading.adapt(reading.spec, raw)
            yield from (row for row, key in zip(rows, keys, strict=True) if key <= reading.last_key)


def read_tables(reading: Reading) -> Iterator[pa.Table]:
    """The rows in scope of one input, as tables of bounded size."""
    rows: list[Row] = []
    size = 0
    for row in read_rows(reading):
        rows.append(row)
        size += sum(map(_size, row.values()))
        if len(rows) >= TABLE_ROWS or size >= TABLE_BYTES:
            yield to_table(rows, reading.schema)
            rows, size = [], 0
    if rows:
        yield to_table(rows, reading.schema)


def _size(value: Any) -> int:
    """Characters of a column's value."""
    if isinstance(value, str):
        return len(value)
    return sum(map(_size, value)) if isinstance(value, list) else 0


def survey(reading: Reading, sample: int | None) -> Survey:
    """Count one input, and find its `sample` smallest sample keys; a UserError is returned, not raised."""
    part, spec = reading.input.part, reading.spec
    if part and part.records is not None and sample is None and not (spec.each or spec.python):
        return Survey(part.records, part.records)  # counted when it was divided: a row each
    records = rows = 0
    smallest: list[_Greatest] = []  # a heap whose first member is the greatest
    try:
        for raw in read_input(reading.spec, reading.input, reading.data_root):
            records += 1
            if sample is None:
                rows += row_count(reading.spec, raw)
                continue
            keys = sample_keys(reading.spec, raw, reading.seed)
            rows += len(keys)
            for key in keys:
                if len(smallest) < sample:
                    heapq.heappush(smallest, _Greatest(key))
                elif key < smallest[0].key:
                    heapq.heapreplace(smallest, _Greatest(key))
    except UserError as exc:
        return Survey(problem=(exc.what, exc.where, exc.fix))
    return Survey(records, rows, tuple(sorted(member.key for member in smallest)))


def row_count(spec: DatasetSpec, raw: RawRecord) -> int:
    """Rows a raw record gives, found without adapting it."""
    if raw.problem or not (spec.each or spec.python):
        return 1
    try:
        return max(1, len(expand(spec, raw)))
    except Exception:  # whatever the user's expression raises: such a record gives one row, with an error status
        return 1


def sample_keys(spec: DatasetSpec, raw: RawRecord, seed: int) -> list[str]:
    """The sample key of each row of a raw record: a hash of its place in its source.

    Not of its content: equal records, such as the blank annotations of a sheet, would be taken or left
    together and could fill a sample by themselves.
    """
    numbers = range(row_count(spec, raw))
    return [digest(seed, "sample", spec.name, raw.position, number) for number in numbers]


@dataclass(frozen=True, slots=True)
class _Greatest:
    key: str

    def __lt__(self, other: _Greatest) -> bool:
        return self.key > other.key


class _ReadTask:
    """What a Ray task runs: the tables of the one input whose number it is given."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self.readings = list(readings)

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for number in batch["reading"].to_pylist():
            yield from read_tables(self.readings[number])


def divided(readings: Sequence[Reading]) -> list[Reading]:
    """The readings with big inputs in parts, each of which knows its place in the whole.

    Raises:
        UserError: an input cannot be read.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:  # a look at each file, which in a store is a request or two
        looks = [pool.submit(divide, one.spec, one.input) if one.input.path else None for one in readings]
    # Hub datasets one by one: their library does not say that threads may share it.
    found = [look.result() if look else divide(one.spec, one.input) for one, look in zip(readings, looks, strict=True)]
    pieces = [[replace(one, input=part) for part in own.parts] for one, own in zip(readings, found, strict=True)]
    held = iter(_each(_held, [piece for own in pieces for piece in own if piece.input.part]))
    done: list[Reading] = []
    for own in pieces:
        if own[0].input.part:
            parts = placed([piece.input for piece in own], [next(held) for _ in own])
            own = [replace(piece, input=part) for piece, part in zip(own, parts, strict=True)]
        done += own
    return done


def _held(reading: Reading) -> Held:
    try:
        return measure(reading.spec, reading.input)
    except UserError as exc:
        return Held(problem=(exc.what, exc.where, exc.fix))


def survey_all(readings: Sequence[Reading], sample: int | None) -> list[Survey]:
    """Survey every input in a Ray task of its own.

    Raises:
        UserError: an input cannot be read.
    """
    return _each(survey, readings, sample)


def _each(call: Callable[..., Found], readings: Sequence[Reading], *more: Any) -> list[Found]:
    """What a function finds of each reading, in a task of its own on the nodes that read.

    Raises:
        UserError: it has found a problem.
    """
    import ray

    readers = ray.data.DataContext.get_current().execution_options.label_selector
    task = ray.remote(num_cpus=1, **({"label_selector": readers} if readers else {}))(call)
    all_found: list[Found] = ray.get([task.remote(reading, *more) for reading in readings])
    for found in all_found:
        if found.problem:
            what, where, fix = found.problem
            raise UserError(what, where=where, fix=fix)
    return all_found


def in_scope(
    readings: Sequence[Reading], surveys: Sequence[Survey], sample: int | None
) -> tuple[Counts, list[Reading]]:
    """Per source the counts for the marker, and the readings with the rows that are in scope."""
    counts: Counts = {}
    scoped: list[Reading] = []
    for name in dict.fromkeys(reading.spec.name for reading in readings):
        own = [pair for pair in zip(readings, surveys, strict=True) if pair[0].spec.name == name]
        rows = sum(found.rows for _, found in own)
        taken = rows if sample is None else min(sample, rows)
        counts[name] = {
            "inputs": list({reading.input.number: reading.input.name for reading, _ in own}.values()),
            "records": sum(found.records for _, found in own),
            "rows": rows,
            "sampled": taken,
            "not_sampled": rows - taken,
        }
        keys = sorted(key for _, found in own for key in found.keys)
        last = keys[taken - 1] if keys and taken < rows else None
        scoped += [replace(reading, last_key=last) for reading, _ in own]
    return counts, scoped


def write(
    readings: Sequence[Reading], counts: Counts, folder: Place, name: str = "ingest", schema: pa.Schema = EXAMPLE
) -> Entry:
    """Write the rows in scope; returns the ledger entry.

    Args:
        readings: all of them.
        counts: of their rows, by source.
        folder: to be filled.
        name: of the step.
        schema: of the rows, which an empty result has too.

    Raises:
        LedgerError: the rows written are not the rows counted.
    """
    import ray

    total = sum(count["sampled"] for count in counts.values())
    numbers = [{"reading": number} for number in range(len(readings))]
    if total:
        with watch(name, total, lambda: storage.row_count(folder)):
            read = ray.data.from_items(numbers, override_num_blocks=len(numbers)).map_batches(
                _ReadTask(readings), batch_size=1, batch_format="pyarrow", num_cpus=1
            )
            # Writing asks for other resources than reading, so that Ray keeps the two apart: fused into one
            # task, it would gather all tables of a file before it writes the first.
            storage.write_ray(read, storage.fresh(folder), ray_remote_args={"num_cpus": 0.25})
    else:
        storage.write_empty(storage.fresh(folder), schema)
    count_rows(folder, "raw_id")  # each row once
    return balance(name, {source: count["sampled"] for source, count in counts.items()}, count_status(folder))
