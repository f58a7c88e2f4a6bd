"""The rows of a segment as Ray Data commits them: data files, and beside them the ids that are written.

Ray writes the ids as pending, then the data, then renames the ids. Pending ids mean that their data does not count.
Every function here keeps to that order, so that a stop at any point costs at most rows to be computed again.
"""

from __future__ import annotations

import uuid
from typing import Any

import pyarrow.compute as pc

from pipelines.core import ledger, sql, storage
from pipelines.core.records import kind
from pipelines.core.storage import Place

ROWS = "rows"  # the folder of a step's parquet files
CHECKPOINT = "checkpoint"  # of the ids that are written
PENDING = ".pending.parquet"


def heal(folder: Place) -> None:
    """Remove data that does not count, of a segment that nobody works on.

    That is data of pending ids, and data without ids: a job that is killed may leave workers on nodes that have not
    heard of it, or are cut off, and they write what they had in hand.

    Ray would remove the first. But ids that are committed and still pending, as a stop can leave them where a rename
    is a copy and a removal, it would keep, and delete their data: here both go, and the rows are computed again.
    """
    for pending in storage.files(folder / CHECKPOINT, PENDING):
        stem = pending.name.removesuffix(PENDING)
        storage.remove(pending.with_name(f"{stem}.parquet"))
        for data in data_of(folder, stem):
            storage.remove(data)
        storage.remove(pending)
    committed = {ids.stem for ids in storage.files(folder / CHECKPOINT, ".parquet")}
    for data in storage.files(folder / ROWS, ".parquet"):
        if data.stem.rpartition("-")[0] not in committed:
            storage.remove(data)


def drop_doubles(folder: Place, id_column: str) -> bool:
    """Keep one row of each id that two jobs have committed, of a segment that is at its end; both say the same.

    Workers of a killed job may commit rows after the next job has read which ids there are. An id that one job has
    committed twice is a fault, and stays.

    Returns:
        Whether there were any.
    """
    heal(folder)
    committed = storage.files(folder / CHECKPOINT, ".parquet")
    if not committed:
        return False
    with sql.connect(ledger.MEMORY, rows=folder / ROWS) as connection:
        doubled = f"select {id_column} from rows group by 1 having count(*) > 1"
        twice = {row[0] for row in connection.execute(doubled).fetchall()}
    job_of: dict[Any, str] = {}
    found = False
    for ids in committed if twice else []:
        job = ids.stem.partition("_")[0]  # Ray's own name for one stream
        own = twice.intersection(storage.read_table(ids)[id_column].to_pylist())
        if late := [key for key in own if job_of.setdefault(key, job) != job]:
            _rewrite(folder, ids, ~pc.field(id_column).isin(late))
            found = True
    return found


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
            status = pc.field("status")
            # null is neither
            _rewrite(folder, ids, (status == "ok") | pc.starts_with(status, "filtered"))


def _errors(path: Place) -> int:
    return sum(kind(status) == "error" for status in storage.read_table(path, ["status"])["status"].to_pylist())


def _rewrite(folder: Place, ids: Place, good: pc.Expression) -> None:
    """Write the rows of some committed ids again, without those that are no good."""
    old, table = data_of(folder, ids.stem), storage.read_table(ids)
    (column,) = table.column_names
    # From here on the old data does not count.
    storage.write_table(pending := ids.with_name(f"{ids.stem}{PENDING}"), table)
    storage.remove(ids)
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
