"""Parquet files and folders at any place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from pipelines.core.errors import UserError
from pipelines.core.storage import stores
from pipelines.core.storage.files import AT_ONCE, download, draft, exists, files, is_folder, make_folder
from pipelines.core.storage.places import Place, Url

T = TypeVar("T")


def _paths(place: Place) -> list[Place]:
    """The parquet files of a folder, or the one file that the place is.

    Raises:
        UserError: there are none.
    """
    paths = files(place, ".parquet") if is_folder(place) else [place]
    if not paths or not exists(paths[0]):
        raise UserError("no parquet files", where=str(place))
    return paths


def _whole(place: Place, call: Callable[[], T]) -> T:
    """What a call returns that reads from a place; made again where a store is out."""
    return stores.patiently(call, place) if isinstance(place, Url) else call()


def dataset(place: Place, schema: pa.Schema | None = None) -> pads.Dataset:
    """The parquet files of a folder, or one file, as an Arrow dataset; columns that a file lacks are null.

    Raises:
        UserError: there are none.
    """
    paths = _paths(place)
    if not isinstance(place, Url):
        return pads.dataset([str(path) for path in paths], format="parquet", schema=schema)
    system, _ = stores.arrow(place)
    kind = pads.ParquetFileFormat()
    fragments = [kind.make_fragment(stores.arrow(path)[1], system) for path in paths if isinstance(path, Url)]
    # Put together here, since `pads.dataset` asks the store for each file beforehand.
    known = schema if schema is not None else stores.patiently(lambda: fragments[0].physical_schema, place)
    return pads.FileSystemDataset(fragments, known, kind, system)


def read_table(
    place: Place,
    columns: Sequence[str] | None = None,
    keep: pc.Expression | None = None,
    schema: pa.Schema | None = None,
) -> pa.Table:
    """The rows of a parquet file or folder, those that `keep` selects, in the order of the files.

    Raises:
        UserError: there are no parquet files.
    """
    names = list(columns) if columns is not None else None
    found = dataset(place, schema)
    return _whole(place, lambda: found.to_table(columns=names, filter=keep))


def read_batches(
    place: Place,
    columns: Sequence[str] | None = None,
    keep: pc.Expression | None = None,
    schema: pa.Schema | None = None,
) -> Iterator[pa.RecordBatch]:
    """As `read_table`, a batch at a time and file by file: memory does not grow with the number of files."""
    names = list(columns) if columns is not None else None
    for path in files(place, ".parquet") if is_folder(place) else [place]:
        if isinstance(path, Url):  # a file as a whole: what an outage cuts off can be asked for again
            yield from read_table(path, columns, keep, schema).to_batches(max_chunksize=4096)
        else:
            yield from dataset(path, schema).to_batches(columns=names, filter=keep, batch_size=4096, batch_readahead=2)


@contextmanager
def _parquet(place: Place) -> Iterator[pq.ParquetFile]:
    if isinstance(place, Url):
        system, path = stores.arrow(place)
        with pq.ParquetFile(path, filesystem=system) as file:
            yield file
    else:
        with pq.ParquetFile(place) as file:
            yield file


def row_groups(place: Place) -> list[int]:
    """Row groups of a parquet file that have rows: the pieces that tasks may read apart."""

    def attempt() -> list[int]:
        found = _metadata(place)
        return [number for number in range(found.num_row_groups) if found.row_group(number).num_rows]

    return _whole(place, attempt)


def _metadata(place: Place) -> pq.FileMetaData:
    with _parquet(place) as file:
        return file.metadata


def read_row_group(place: Place, group: int, columns: Sequence[str]) -> pa.Table:
    """One row group of a parquet file."""

    def attempt() -> pa.Table:
        with _parquet(place) as file:
            return file.read_row_group(group, columns=list(columns))

    return _whole(place, attempt)


def write_table(place: Place, table: pa.Table) -> None:
    """Write one parquet file."""
    with draft(place) as local:
        pq.write_table(table, local)


@contextmanager
def table_writer(place: Place, schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
    """Write one parquet file piece by piece; it is seen when the block has ended well."""
    with draft(place) as local, _Writer(local, schema, **options) as writer:
        yield writer


class _Writer(pq.ParquetWriter):
    # The library `datasets` stops at a row group without rows.

    def write_table(self, table: pa.Table, row_group_size: int | None = None) -> None:
        if table.num_rows:
            super().write_table(table, row_group_size)


def write_rows(folder: Place, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
    """Write batches as the parquet files of an empty folder, at least one, of at most 100,000 rows each."""
    system, path = stores.arrow(folder) if isinstance(folder, Url) else (None, make_folder(folder))
    pads.write_dataset(
        batches,
        path,
        filesystem=system,
        schema=schema,
        format="parquet",
        basename_template="part-{i}.parquet",
        max_rows_per_file=100_000,
        max_rows_per_group=10_000,
        existing_data_behavior="error",
    )
    if not files(folder, ".parquet"):
        write_empty(folder, schema)


def write_ordered(folder: Place, batches: Iterable[pa.RecordBatch], schema: pa.Schema, most: int = 100_000) -> None:
    """Write batches in their order, as the parquet files of an empty folder, at least one, each of about `most` rows.

    Unlike `write_rows`, on one thread: batches may come from a query that itself needs Arrow's threads.
    """
    left = iter(batches)
    batch, number = next(left, None), 0
    while batch is not None or number == 0:
        with table_writer(folder / f"part-{number:05d}.parquet", schema) as writer:
            rows = 0
            while batch is not None and rows < most:
                writer.write_batch(batch)
                rows += batch.num_rows
                batch = next(left, None)
        number += 1


def write_empty(folder: Place, schema: pa.Schema) -> None:
    """A parquet file without rows, so that what follows still finds its columns."""
    write_table(folder / "empty.parquet", schema.empty_table())


def folder_schema(folder: Place) -> pa.Schema:
    """Schema of the parquet files of a folder, or of one file.

    Raises:
        UserError: the folder has no parquet file, or one that cannot be read.
    """
    first = _paths(folder)[0]
    try:
        return _whole(first, lambda: _schema(first)).remove_metadata()
    except (OSError, pa.ArrowInvalid):
        raise UserError("not a readable parquet file", where=str(first)) from None


def _schema(place: Place) -> pa.Schema:
    if not isinstance(place, Url):
        return pq.read_schema(place)
    with _parquet(place) as file:
        return file.schema_arrow


def row_count(folder: Place) -> int:
    """Rows in the finished parquet files of a folder."""
    if isinstance(folder, Url):
        found = [(url, info) for url, info in stores.listing(folder) if url.suffix == ".parquet" and info.is_file]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            counted = pool.map(lambda one: _rows_of(one[0], one[1].size, one[1].mtime_ns), found)
            return sum(rows for (url, _), rows in zip(found, counted, strict=True) if url.name[0] not in "._")
    total = 0
    for path in files(folder, ".parquet"):
        try:
            total += pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowInvalid):
            continue  # being written right now
    return total


@lru_cache(maxsize=100_000)  # a file of rows is never changed, and progress asks for all of them every few seconds
def _rows_of(url: Url, size: int, changed: int) -> int:
    try:
        return int(_whole(url, lambda: _metadata(url).num_rows))
    except (FileNotFoundError, pa.ArrowInvalid):
        return 0


def column_values(place: Place, column: str) -> list[Any] | None:
    """A column of one parquet file; None where the file is being written right now."""
    try:
        if isinstance(place, Url):
            return read_table(place, [column])[column].to_pylist()
        return pq.read_table(place, columns=[column])[column].to_pylist()
    except (OSError, pa.ArrowInvalid):
        return None


def column_sum(folder: Place, columns: Sequence[str]) -> int:
    """Sum of some integer columns over the rows of a folder."""
    if not columns:
        return 0
    found = dataset(folder)

    def attempt() -> int:
        batches = found.to_batches(columns=list(columns))
        return sum(pc.sum(batch[name]).as_py() or 0 for batch in batches for name in columns)

    return _whole(folder, attempt)


def for_ray(place: Place) -> tuple[str, pafs.FileSystem | None]:
    """The path and the file system that Ray Data, Ray Train and Ray Tune take for a place; None is their own choice."""
    if isinstance(place, Url):
        system, path = stores.arrow(place)
        return path, system
    return str(place), None


def write_ray(rows: Any, folder: Place, **options: Any) -> None:
    """Write a Ray dataset as parquet files of a folder."""
    path, system = for_ray(folder)
    rows.write_parquet(path, filesystem=system, **options)


def local_copy(folder: Place, local: Path) -> list[str]:
    """The parquet files of a folder as paths of this machine: copied into `local` where they are in a store."""
    own = download(folder, make_folder(local)) if isinstance(folder, Url) else folder
    return [str(path) for path in files(own, ".parquet")]
