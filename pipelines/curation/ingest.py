"""Ingest: raw records of all sources, adapted to Example rows and written as parquet.

Two passes over the inputs, one Ray task per file in each. The survey counts raw records and rows without
adapting any, finds the smallest hashes where a source is sampled, and meets every unreadable file; the
plan then reads, adapts and writes. What is written must balance against what the survey counted.
"""

from __future__ import annotations

import heapq
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.core.config import Config
from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.files import read_json, write_json
from pipelines.core.ledger import Entry, balance, check_error_share, count_rows, count_status
from pipelines.core.mapping import Mapping, RawRecord, adapt, expand
from pipelines.core.progress import clock, say, watch
from pipelines.core.readers import Input, inputs, read_input
from pipelines.core.records import EXAMPLE, Row
from pipelines.core.segment import DONE, claim, write_empty, written
from pipelines.core.stage import to_table
from pipelines.curation.registry import load_sources

TABLE_ROWS = 500
TABLE_BYTES = 16 * 2**20  # about; a table is handed on when either is reached
EDGE = 1 << 20  # bytes of a file's head and tail that stand for its content


@dataclass(frozen=True)
class Reading:
    """One read task: an input of a mapping, and which of its rows are in scope.

    Attributes:
        mapping: how its records become rows.
        source: the file, or hub dataset.
        data_root: folder of local files.
        seed: of the sample.
        last_key: greatest sample key that is in scope; None keeps every row.
    """

    mapping: Mapping
    source: Input
    data_root: Path | None
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


def ingest(config: Config, work: Path) -> Path:
    """Write `work/ingest/rows/*.parquet`: every row in scope, with a status; returns that folder.

    The folder is put in place when it is whole, and kept when the same config asks for it again. `done.json`
    beside it has, per source, raw records, rows, and how many of them are sampled and not sampled.

    Raises:
        UserError: a source, file or hub dataset cannot be read; the folder holds the work of another config.
        LedgerError: the rows written are not the rows counted.
        TooManyErrors: more than `max_error_share` of the rows are errors.
    """
    mappings = load_sources(config.curation.sources)
    readings = [
        Reading(mapping, source, config.data_root, config.seed)
        for mapping in mappings
        for source in inputs(mapping, config.data_root)
    ]
    folder, depends = work / "ingest", _depends(config, mappings, readings)
    fingerprint = digest("ingest", depends)
    claim(folder, fingerprint, depends)
    rows = folder / "rows"
    if (folder / DONE).exists():
        say(f"ingest: already done, {read_json(folder / DONE)['rows']} rows")
        return rows
    start = time.monotonic()
    for name, doubt in unconfirmed(readings).items():
        say(f"ingest: source '{name}' has not been tried on its real data: {doubt}")
    surveys = _survey_all(readings, config.curation.sample_per_source)
    counts, readings = _scope(mappings, readings, surveys, config.curation.sample_per_source)
    draft = folder / f".rows.{os.getpid()}.tmp"
    entry = _write(readings, counts, draft)
    check_error_share("ingest", entry, config.max_error_share)
    shutil.rmtree(rows, ignore_errors=True)  # left by a job that was killed before it was done
    os.replace(draft, rows)
    total = sum(count["sampled"] for count in counts.values())
    seconds = round(time.monotonic() - start, 2)
    done = {"fingerprint": fingerprint, "rows": total, "seconds": seconds, "ledger": entry, "sources": counts}
    write_json(folder / DONE, done)
    say(f"ingest: {total} rows of {len(mappings)} sources in {clock(seconds)}")
    return rows


def unconfirmed(readings: list[Reading]) -> dict[str, str]:
    """Source -> what nobody has yet checked in its mapping against the real data."""
    doubts: dict[str, str] = {}
    for reading in readings:
        hub = reading.mapping.hub if reading.source.path is None else None
        if doubt := reading.mapping.to_confirm or (hub.to_confirm if hub else ""):
            doubts[reading.mapping.name] = doubt
    return doubts


def ingest_rows(mapping: Mapping, data_root: Path | None) -> Iterator[Row]:
    """Every row of a source, in order, with every Example column and a status; needs no cluster.

    Raises:
        UserError: a file is missing or cannot be read.
    """
    for source in inputs(mapping, data_root):
        yield from read_rows(Reading(mapping, source, data_root))


def read_rows(reading: Reading) -> Iterator[Row]:
    """The rows in scope of one input."""
    for raw in read_input(reading.mapping, reading.source, reading.data_root):
        if reading.last_key is None:
            yield from adapt(reading.mapping, raw)
            continue
        keys = sample_keys(reading.mapping, raw, reading.seed)
        if min(keys) <= reading.last_key:
            rows = adapt(reading.mapping, raw)
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
    """Count one input, and find its `sample` smallest sample keys; a UserError is told, not raised."""
    records = rows = 0
    smallest: list[_Greatest] = []  # a heap whose first member is the greatest
    try:
        for raw in read_input(reading.mapping, reading.source, reading.data_root):
            records += 1
            if sample is None:
                rows += row_count(reading.mapping, raw)
                continue
            keys = sample_keys(reading.mapping, raw, reading.seed)
            rows += len(keys)
            for key in keys:
                if len(smallest) < sample:
                    heapq.heappush(smallest, _Greatest(key))
                elif key < smallest[0].key:
                    heapq.heapreplace(smallest, _Greatest(key))
    except UserError as exc:
        return Survey(problem=(exc.what, exc.where, exc.fix))
    return Survey(records, rows, tuple(sorted(member.key for member in smallest)))


def row_count(mapping: Mapping, raw: RawRecord) -> int:
    """Rows a raw record gives, found without adapting it."""
    if raw.problem or not (mapping.each or mapping.python):
        return 1
    try:
        return max(1, len(expand(mapping, raw)))
    except Exception:  # such a record gives one row, with an error status
        return 1


def sample_keys(mapping: Mapping, raw: RawRecord, seed: int) -> list[str]:
    """The sample key of each row of a raw record: a hash of its place in its source.

    Not of its content: equal records, such as the blank annotations of a sheet, would be taken or left
    together and could fill a sample by themselves.
    """
    numbers = range(row_count(mapping, raw))
    return [digest(seed, "sample", mapping.name, raw.position, number) for number in numbers]


@dataclass(frozen=True, slots=True)
class _Greatest:
    key: str

    def __lt__(self, other: _Greatest) -> bool:
        return self.key > other.key


class _ReadTask:
    """What a Ray task runs: the tables of the one input whose number it is given."""

    def __init__(self, readings: list[Reading]) -> None:
        self.readings = readings

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for number in batch["reading"].to_pylist():
            yield from read_tables(self.readings[number])


def _survey_all(readings: list[Reading], sample: int | None) -> list[Survey]:
    import ray

    task = ray.remote(num_cpus=1)(survey)
    surveys: list[Survey] = ray.get([task.remote(reading, sample) for reading in readings])
    for found in surveys:
        if found.problem:
            what, where, fix = found.problem
            raise UserError(what, where=where, fix=fix)
    return surveys


def _scope(
    mappings: list[Mapping], readings: list[Reading], surveys: list[Survey], sample: int | None
) -> tuple[dict[str, dict[str, Any]], list[Reading]]:
    counts: dict[str, dict[str, Any]] = {}
    scoped: list[Reading] = []
    for mapping in mappings:
        mine = [(r, s) for r, s in zip(readings, surveys, strict=True) if r.mapping.name == mapping.name]
        rows = sum(found.rows for _, found in mine)
        taken = rows if sample is None else min(sample, rows)
        counts[mapping.name] = {
            "inputs": [reading.source.name for reading, _ in mine],
            "records": sum(found.records for _, found in mine),
            "rows": rows,
            "sampled": taken,
            "not_sampled": rows - taken,
        }
        keys = sorted(key for _, found in mine for key in found.keys)
        last = keys[taken - 1] if keys and taken < rows else None
        scoped += [Reading(r.mapping, r.source, r.data_root, r.seed, last) for r, _ in mine]
    return counts, scoped


def _write(readings: list[Reading], counts: dict[str, dict[str, Any]], draft: Path) -> Entry:
    import ray

    for left in draft.parent.glob(".rows.*.tmp"):
        shutil.rmtree(left)
    draft.mkdir(parents=True)
    total = sum(count["sampled"] for count in counts.values())
    numbers = [{"reading": number} for number in range(len(readings))]
    if total:
        with watch("ingest", total, lambda: written(draft)):
            read = ray.data.from_items(numbers, override_num_blocks=len(numbers)).map_batches(
                _ReadTask(readings), batch_size=1, batch_format="pyarrow", num_cpus=1
            )
            # Writing asks for other resources than reading, so that Ray keeps the two apart: fused into one
            # task, it would gather all tables of a file before it writes the first.
            read.write_parquet(str(draft), ray_remote_args={"num_cpus": 0.25})
    else:
        write_empty(draft, EXAMPLE)
    count_rows(draft, "raw_id")  # each row once
    return balance("ingest", {name: count["sampled"] for name, count in counts.items()}, count_status(draft))


def _depends(config: Config, mappings: list[Mapping], readings: list[Reading]) -> dict[str, Any]:
    sample = config.curation.sample_per_source
    return {
        "sources": {mapping.name: mapping.model_dump(mode="json") for mapping in mappings},
        "files": {f"{r.mapping.name} {r.source.name}": _fingerprint(r.source.path) for r in readings},
        "sample_per_source": sample,
        "seed": config.seed if sample is not None else None,
    }


def _fingerprint(path: Path | None) -> str | None:
    """Stands for a file's content: its size, head and tail; not its time, which a copy changes."""
    if path is None:
        return None
    with path.open("rb") as file:
        head = file.read(EDGE)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - EDGE))
        return digest(size, head.hex(), file.read().hex())
