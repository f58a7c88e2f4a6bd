"""Run data: the one module that opens, lists, writes, removes and hashes it.

Elsewhere a `Place` is only a name: `/`, `name`, `stem`, `suffix`, `parent` and `with_name`. Places are local paths
today. Supporting an object store means changing this file alone, because nothing relies on what such stores lack: no
folder is moved, no file is appended to, and a result counts once its marker is written (`core/step.py`), not once
something is renamed. A reader sees a file whole or not at all. Files that a library needs on a local disk go to
`scratch`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from pipelines.core.errors import UserError

Place = Path


class Version(NamedTuple):
    """A file or folder as it is now: the key of what is read from it once a process."""

    place: Place
    changed: int
    size: int


def exists(place: Place) -> bool:
    """Whether there is a file or a folder."""
    return place.exists()


def files(folder: Place, suffix: str = "") -> list[Place]:
    """The files of a folder, sorted by name; none where there is no folder.

    Names that begin with a dot or an underscore are drafts and notes, and are left out.
    """
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if path.name.endswith(suffix) and path.name[0] not in "._")
    return sorted(path for path in found if path.is_file())


def find(folder: Place, name: str) -> list[Place]:
    """The files of a name in a folder and all below it, sorted."""
    return sorted(path for path in folder.rglob(name) if path.is_file())


def holds_files(folder: Place, but: Sequence[str] = ()) -> bool:
    """Whether there is a file in a folder or below it, but for what some names in it hold."""
    own = (path for path in folder.iterdir() if path.name not in but) if folder.is_dir() else ()
    return any(path.is_file() or holds_files(path) for path in own)


def check_writable(folder: Place) -> None:
    """Check that a folder is there or can be made, without making it.

    Raises:
        UserError: a file is in its way, or it may not be written to.
    """
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if not nearest.is_dir():
        raise UserError(f"cannot be made, because {nearest} is a file", where=str(folder))
    if not os.access(nearest, os.W_OK):
        raise UserError(f"cannot be written, because {nearest} may not be", where=str(folder))


def make_folder(folder: Place) -> Place:
    """The folder, made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fresh(folder: Place) -> Place:
    """The folder, empty: what a job left there that was stopped before its end is removed."""
    remove(folder)
    return make_folder(folder)


def remove(place: Place) -> None:
    """Remove a file, or a folder with all it holds; nothing happens where there is none."""
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def version(place: Place) -> Version:
    """The place, its time of change and its size."""
    stat = place.stat()
    return Version(place, stat.st_mtime_ns, stat.st_size)


def read_bytes(place: Place) -> bytes:
    """A whole file."""
    return place.read_bytes()


def read_text(place: Place) -> str:
    """A whole text file; bytes that are not UTF-8 are replaced."""
    return place.read_text(encoding="utf-8", errors="replace")


def read_json(place: Place) -> Any:
    """A JSON file."""
    return json.loads(read_text(place))


def write_bytes(place: Place, content: bytes) -> None:
    """Write a file."""
    with draft(place) as local:
        local.write_bytes(content)


def write_text(place: Place, text: str) -> None:
    """Write a text file, making its folder."""
    write_bytes(place, text.encode("utf-8"))


def write_json(place: Place, value: Any) -> None:
    """Write a JSON file, keys in the order given."""
    write_text(place, to_json(value))


def to_json(value: Any) -> str:
    """The text of a JSON file."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def create(place: Place, text: str) -> bool:
    """Write a text file where there is none; of several that try, one succeeds. Whether this one did."""
    make_folder(place.parent)
    local = place.with_name(f".{place.name}.{uuid.uuid4().hex}.tmp")
    try:
        local.write_text(text, encoding="utf-8")
        os.link(local, place)  # whole from its first moment on
    except FileExistsError:
        return False
    finally:
        local.unlink(missing_ok=True)
    return True


@contextmanager
def draft(place: Place) -> Iterator[Path]:
    """A local file to fill, which becomes `place` when the block ends well and vanishes when it does not."""
    make_folder(place.parent)
    local = place.with_name(f".{place.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield local
        os.replace(local, place)
    finally:
        local.unlink(missing_ok=True)


@contextmanager
def local_folder(folder: Place) -> Iterator[Path]:
    """An empty local folder for a library to fill; its files are those of `folder` once the block ends.

    They do not appear together, so a marker elsewhere must say that they are complete.
    """
    yield fresh(folder)
    share(folder)


def share(folder: Path) -> None:
    """Let others read the files of a local folder as the umask says: some libraries write for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode | 0o666 & ~mask)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of this machine for the time of the block: OPENSELENE_SCRATCH, else the system's temporary folder."""
    with tempfile.TemporaryDirectory(prefix="openselene-", dir=os.environ.get("OPENSELENE_SCRATCH")) as folder:
        yield Path(folder)


def dataset(place: Place, schema: pa.Schema | None = None) -> pads.Dataset:
    """The parquet files of a folder, or one file, as an Arrow dataset; columns that a file lacks are null.

    Raises:
        UserError: there are none.
    """
    paths = files(place, ".parquet") if place.is_dir() else [place]
    if not paths or not exists(paths[0]):
        raise UserError("no parquet files", where=str(place))
    return pads.dataset([str(path) for path in paths], format="parquet", schema=schema)


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
    return dataset(place, schema).to_table(columns=list(columns) if columns is not None else None, filter=keep)


def read_batches(
    place: Place,
    columns: Sequence[str] | None = None,
    keep: pc.Expression | None = None,
    schema: pa.Schema | None = None,
) -> Iterator[pa.RecordBatch]:
    """As `read_table`, a batch at a time and file by file: memory does not grow with the number of files."""
    for path in files(place, ".parquet") if place.is_dir() else [place]:
        names = list(columns) if columns is not None else None
        yield from dataset(path, schema).to_batches(columns=names, filter=keep, batch_size=4096, batch_readahead=2)


def row_groups(place: Place) -> int:
    """Row groups of a parquet file: the pieces that tasks may read apart."""
    return pq.read_metadata(place).num_row_groups


def read_row_group(place: Place, group: int, columns: Sequence[str]) -> pa.Table:
    """One row group of a parquet file."""
    with pq.ParquetFile(place) as file:
        return file.read_row_group(group, columns=list(columns))


def write_table(place: Place, table: pa.Table) -> None:
    """Write one parquet file."""
    with draft(place) as local:
        pq.write_table(table, local)


@contextmanager
def table_writer(place: Place, schema: pa.Schema, **options: Any) -> Iterator[pq.ParquetWriter]:
    """Write one parquet file piece by piece; it is seen when the block has ended well."""
    with draft(place) as local, pq.ParquetWriter(local, schema, **options) as writer:
        yield writer


def write_rows(folder: Place, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
    """Write batches as the parquet files of an empty folder, at least one, of at most 100,000 rows each."""
    pads.write_dataset(
        batches,
        make_folder(folder),
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
    paths = files(folder, ".parquet") if folder.is_dir() else [folder]
    if not paths or not exists(paths[0]):
        raise UserError("no parquet files", where=str(folder))
    try:
        return pq.read_schema(paths[0]).remove_metadata()
    except (OSError, pa.ArrowInvalid):
        raise UserError("not a readable parquet file", where=str(paths[0])) from None


def row_count(folder: Place) -> int:
    """Rows in the finished parquet files of a folder."""
    total = 0
    for path in files(folder, ".parquet"):
        try:
            total += pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowInvalid):
            continue  # being written right now
    return total


def column_values(place: Place, column: str) -> list[Any] | None:
    """A column of one parquet file; None where the file is being written right now."""
    try:
        return pq.read_table(place, columns=[column])[column].to_pylist()
    except (OSError, pa.ArrowInvalid):
        return None


def column_sum(folder: Place, columns: Sequence[str]) -> int:
    """Sum of some integer columns over the rows of a folder."""
    batches = dataset(folder).to_batches(columns=list(columns)) if columns else []
    return sum(pc.sum(batch[name]).as_py() or 0 for batch in batches for name in columns)


def content_digest(place: Place) -> str:
    """Hash of every byte of a file, or of the names and bytes of a folder's files; not of times, which a copy changes.

    Raises:
        UserError: there is neither.
    """
    if not exists(place):
        raise UserError("no such file or folder", where=str(place))
    if not place.is_dir():
        return _file_digest(version(place))
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith(".")):
        state.update(f"{path.relative_to(place).as_posix()}\x1f{_file_digest(version(path))}\x1f".encode())
    return state.hexdigest()


@lru_cache(maxsize=4096)  # once a process: models are asked for by several segments
def _file_digest(file: Version) -> str:
    with file.place.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
