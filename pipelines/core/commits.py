"""The rows of a segment as Ray Data commits them: data files, and beside them the ids that are written.

Ray writes the ids as pending, then the data, then renames the ids. Pending ids mean that their data does not count.
Every function here keeps to that order, so that a stop at any point costs at most rows to be computed again.
"""

from __future__ import annotations

import uuid

import pyarrow.compute as pc

from pipelines.core import storage
from pipelines.core.records import kind
from pipelines.core.storage import Place

ROWS = "rows"  # the folder of a step's parquet files
CHECKPOINT = "checkpoint"  # of the ids that are written
PENDING = ".pending.parquet"


def heal(folder: Place) -> None:
    """Remove data that does not count, of a segment that nobody works on.

    Ray would do so too. But ids that are committed and still pending, as a stop can leave them where a rename is a copy
    and a removal, it would keep, and delete their data: here both go, and the rows are computed again.
    """
    for pending in storage.files(folder / CHECKPOINT, PENDING):
        stem = pending.name.removesuffix(PENDING)
        storage.remove(pending.with_name(f"{stem}.parquet"))
        for data in data_of(folder, stem):
            storage.remove(data)
        storage.remove(pending)


def data_of(folder: Place, stem: str) -> list[Place]:
    """The data files of committed ids, by their name."""
    return [path for path in storage.files(folder / ROWS, ".parquet") if path.name.startswith(f"{stem}-")]


def errors_in(folder: Place) -> int:
    """Error rows of a segment."""
    return sum(_errors(path) for path in storage.files(folder / ROWS, ".parquet"))


def drop_errors(folder: Place) -> None:
    """Take the error rows of a segment back, ids and data: the next run computes them again, and no other row."""
    heal(folder)
    for ids in storage.files(folder / CHECKPOINT, ".parquet"):
        if any(map(_errors, data_of(folder, ids.stem))):
            _without_errors(folder, ids)


def _errors(path: Place) -> int:
    return sum(kind(status) == "error" for status in storage.read_table(path, ["status"])["status"].to_pylist())


def _without_errors(folder: Place, ids: Place) -> None:
    old, table = data_of(folder, ids.stem), storage.read_table(ids)
    (column,) = table.column_names
    # From here on the old data does not count.
    storage.write_table(pending := ids.with_name(f"{ids.stem}{PENDING}"), table)
    storage.remove(ids)
    status = pc.field("status")
    good = (status == "ok") | pc.starts_with(status, "filtered")  # null is neither
    for path in old:
        kept, stem = storage.read_table(path, keep=good), uuid.uuid4().hex
        if kept.num_rows:
            storage.write_table(new := ids.with_name(f"{stem}{PENDING}"), kept.select([column]))
            storage.write_table(path.with_name(f"{stem}-0.parquet"), kept)
            storage.write_table(ids.with_name(f"{stem}.parquet"), kept.select([column]))
            storage.remove(new)
    for path in old:
        storage.remove(path)
    storage.remove(pending)
