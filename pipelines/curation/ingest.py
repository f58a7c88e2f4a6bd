"""Ingest: raw records of all sources, adapted to Example rows and written as parquet.

Two passes over the inputs, one Ray task per file in each. The survey counts raw records and rows without adapting any,
finds the smallest hashes where a source is sampled, and meets every unreadable file; then the files are read, adapted
and written. What is written must balance against what the survey counted.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from pipelines.core import step, storage
from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.ledger import Entry, balance, check_error_share, count_rows, count_status
from pipelines.core.progress import clock, say, watch
from pipelines.core.records import EXAMPLE, Row
from pipelines.core.run import Run
from pipelines.core.segment import ROWS, Rows
from pipelines.core.stage import to_table
from pipelines.core.storage import Place
from pipelines.datasets.preview import preview
from pipelines.datasets.readers import Input, contents, inputs, read_input
from pipelines.datasets.spec import DatasetSpec, RawRecord, adapt, expand

TABLE_ROWS = 500
TABLE_BYTES = 16 * 2**20  # about; a table is handed on when either is reached
Counts = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Reading:
    """One read task: an input of a source, and which of its rows are in scope.

    Attributes:
        spec: how its records become rows.
        input: the file, or hub dataset.
        data_root: folder of local files.
        seed: of the sample.
        last_key: greatest sample key that is in scope; None keeps every row.
    """

    spec: DatasetSpec
    input: Input
    data_root: Place | None
    seed: int = 0
    last_key: str | None = None


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


class Ingest:
    """Writes every row in scope of every source, with a status.

    The marker has, per source, raw records, rows, and how many of them are sampled and not sampled.

    Args:
        run: its data root, seed and limit of errors.
        sources: in order.
        sample: rows of each source; None takes all.
    """

    name = "ingest"

    def __init__(self, run: Run, sources: Sequence[DatasetSpec], sample: int | None = None) -> None:
        self.settings, self.sources, self.sample = run, list(sources), sample

    def depends(self, before: Rows | None = None) -> step.Depends:
        """The sources and the content of their files; the seed, where it chooses a sample.

        Raises:
            UserError: a file is missing.
        """
        return {
            "sources": {source.name: source.identity() for source in self.sources},
            "files": {source.name: contents(source, self.settings.data_root) for source in self.sources},
            "sample_per_source": self.sample,
            "seed": None if self.sample is None else self.settings.seed,
        }

    def run(self, work: Place, before: Rows | None = None) -> Rows:
        """Read the sources; `before` plays no part.

        Raises:
            UserError: a source, file or hub dataset cannot be read; the folder holds the work of another config.
            LedgerError: the rows written are not the rows counted.
            TooManyErrors: more than `max_error_share` of the rows are errors.
        """
        folder, depends = work / self.name, self.depends()
        if done := step.finished(folder, depends):
            say(f"{self.name}: already done, {done['rows']} rows")
        return Rows(folder / ROWS, step.once(folder, depends, self._write)["fingerprint"])

    def describe(self) -> list[str]:
        """The sources, and what the first rows of each become.

        Raises:
            UserError: a source's file is missing or cannot be read.
        """
        lines = [f"ingest {len(self.sources)} sources"]
        for source in self.sources:
            lines.append(f"  source {source.name}: {source.task}, {source.license}")
            lines += [f"    {line}" for line in preview(source, self.settings.data_root)]
        return lines

    def _write(self, folder: Place) -> step.Result:
        start = time.monotonic()
        readings = [
            Reading(source, found, self.settings.data_root, self.settings.seed)
            for source in self.sources
            for found in inputs(source, self.settings.data_root)
        ]
        for name, doubt in unconfirmed(readings).items():
            say(f"ingest: source '{name}' has not been tried on its real data: {doubt}")
        counts, readings = in_scope(readings, survey_all(readings, self.sample), self.sample)
        entry = write(readings, counts, folder / ROWS)
        check_error_share(self.name, entry, self.settings.max_error_share)
        total, seconds = sum(count["sampled"] for count in counts.values()), time.monotonic() - start
        say(f"ingest: {total} rows of {len(self.sources)} sources in {clock(seconds)}")
        return {"rows": total, "seconds": round(seconds, 2), "ledger": entry, "sources": counts}


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
            yield from adapt(reading.spec, raw)
            continue
        keys = sample_keys(reading.spec, raw, reading.seed)
        if min(keys) <= reading.last_key:
            rows = adapt(reading.spec, raw)
            yield from (row for row, key in zip(rows, keys, strict=True) if key <= reading.last_key)


def read_tables(reading: Reading) -> Iterator[pa.Table]:
    """The rows in scope of one input, as tables of the Example schema of bounded size."""
    rows: list[Row] = []
    size = 0
    for row in read_rows(reading):
        rows.append(row)
        size += sum(len(text or "") for text in (row["instruction"], row["context"], *(row["responses"] or [])))
        if len(rows) >= TABLE_ROWS or size >= TABLE_BYTES:
            yield to_table(rows, EXAMPLE)
            rows, size = [], 0
    if rows:
        yield to_table(rows, EXAMPLE)


def survey(reading: Reading, sample: int | None) -> Survey:
    """Count one input, and find its `sample` smallest sample keys; a UserError is returned, not raised."""
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


def survey_all(readings: Sequence[Reading], sample: int | None) -> list[Survey]:
    """Survey every input in a Ray task of its own.

    Raises:
        UserError: an input cannot be read.
    """
    import ray

    task = ray.remote(num_cpus=1)(survey)
    surveys: list[Survey] = ray.get([task.remote(reading, sample) for reading in readings])
    for found in surveys:
        if found.problem:
            what, where, fix = found.problem
            raise UserError(what, where=where, fix=fix)
    return surveys


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
            "inputs": [reading.input.name for reading, _ in own],
            "records": sum(found.records for _, found in own),
            "rows": rows,
            "sampled": taken,
            "not_sampled": rows - taken,
        }
        keys = sorted(key for _, found in own for key in found.keys)
        last = keys[taken - 1] if keys and taken < rows else None
        scoped += [replace(reading, last_key=last) for reading, _ in own]
    return counts, scoped


def write(readings: Sequence[Reading], counts: Counts, folder: Place) -> Entry:
    """Write the rows in scope; returns the ledger entry.

    Raises:
        LedgerError: the rows written are not the rows counted.
    """
    import ray

    total = sum(count["sampled"] for count in counts.values())
    numbers = [{"reading": number} for number in range(len(readings))]
    if total:
        with watch("ingest", total, lambda: storage.row_count(folder)):
            read = ray.data.from_items(numbers, override_num_blocks=len(numbers)).map_batches(
                _ReadTask(readings), batch_size=1, batch_format="pyarrow", num_cpus=1
            )
            # Writing asks for other resources than reading, so that Ray keeps the two apart: fused into one
            # task, it would gather all tables of a file before it writes the first.
            read.write_parquet(str(storage.fresh(folder)), ray_remote_args={"num_cpus": 0.25})
    else:
        storage.write_empty(storage.fresh(folder), EXAMPLE)
    count_rows(folder, "raw_id")  # each row once
    return balance("ingest", {name: count["sampled"] for name, count in counts.items()}, count_status(folder))
