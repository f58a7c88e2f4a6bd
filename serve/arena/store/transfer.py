"""All of an arena as parquet files, and back into an empty database elsewhere: the same leaderboard.

    PLACE/judges.parquet, battles.parquet, judgments.parquet, votes.parquet, marks.parquet, arena.json

`arena.json` is written last, with the rows and digest of each file and the ratings. Ratings are no table of it: import
computes them from the votes, and refuses what does not give the exported ones.
"""

from __future__ import annotations

import time
from typing import Any

import pyarrow as pa
from sqlalchemy import BigInteger, Connection, Double, Engine, Integer, Table, delete, func, insert, select, update

from pipelines.core import storage
from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.storage import Place
from serve.arena.ratings import elo
from serve.arena.store.database import reading
from serve.arena.store.reading import check, votes_of
from serve.arena.store.tables import BATTLES, JUDGES, JUDGMENTS, LAST, MARKS, RATINGS, VOTES

FORMAT = 1
TABLES: tuple[Table, ...] = (JUDGES, BATTLES, JUDGMENTS, VOTES, MARKS)  # in the order that foreign keys need
MANIFEST = "arena.json"
AT_ONCE = 1000  # rows of one insert


def export(engine: Engine, folder: Place) -> dict[str, Any]:
    """Write all tables as they are at one moment, and return what `arena.json` says.

    Raises:
        UserError: the folder holds something, or the stored ratings do not follow from the votes.
    """
    if storage.is_folder(folder) and storage.holds_files(folder):
        raise UserError("the folder is not empty", where=str(folder), fix="name another one")
    storage.make_folder(folder)
    with reading(engine) as connection:
        checked = check(connection)
        if checked.problems:
            raise UserError(checked.problems[0], where="database", fix="see: openselene arena --check")
        rows, digests = {}, {}
        for table in TABLES:
            found = _table(connection, table)
            storage.write_table(folder / f"{table.name}.parquet", found)
            rows[table.name], digests[table.name] = found.num_rows, _digest(found)
        ratings = {row.judge: row.elo for row in connection.execute(select(RATINGS))}
    manifest = {
        "format": FORMAT,
        "exported_ms": int(time.time() * 1000),
        "rows": rows,
        "digests": digests,
        "ratings": ratings,
    }
    storage.write_json(folder / MANIFEST, manifest)
    return manifest


def bring(engine: Engine, folder: Place) -> dict[str, Any]:
    """Fill an empty database from an export, all of it or nothing, and return what `arena.json` says.

    Raises:
        UserError: there is no whole export, or the database has battles or other judges.
    """
    if not storage.exists(folder / MANIFEST):
        raise UserError(f"no {MANIFEST}: no export, or one that was not finished", where=str(folder))
    manifest: dict[str, Any] = storage.read_json(folder / MANIFEST)
    if manifest["format"] != FORMAT:
        raise UserError(
            f"an export of format {manifest['format']}", where=str(folder), fix=f"this version reads {FORMAT}"
        )
    tables = {table.name: storage.read_table(folder / f"{table.name}.parquet") for table in TABLES}
    for name, found in tables.items():
        if _digest(found) != manifest["digests"][name]:
            raise UserError("its rows are not those that were exported", where=str(folder / f"{name}.parquet"))
    with engine.begin() as connection:
        if connection.execute(select(func.count()).select_from(BATTLES)).scalar_one():
            raise UserError("the database has battles", where="database", fix="import into a new one")
        connection.execute(delete(RATINGS))
        connection.execute(delete(JUDGES))
        for table in TABLES:
            for batch in tables[table.name].to_batches(max_chunksize=AT_ONCE):
                if batch.num_rows:
                    connection.execute(insert(table), batch.to_pylist())
        _rate(connection, manifest, str(folder))
    return manifest


def _rate(connection: Connection, manifest: dict[str, Any], where: str) -> None:
    votes = votes_of(connection)
    ratings = elo.ratings_of(votes)
    fought = dict.fromkeys(manifest["ratings"], 0)
    for vote in votes:
        fought[vote.judge_a] += 1
        fought[vote.judge_b] += 1
    for judge, count in fought.items():
        connection.execute(insert(RATINGS).values(judge=judge, elo=ratings.get(judge, elo.START), votes=count))
    connection.execute(update(LAST).values(sequence=len(votes)))
    problems = check(connection).problems
    recomputed = {row.judge: row.elo for row in connection.execute(select(RATINGS))}
    if problems or recomputed != manifest["ratings"]:
        raise UserError((problems or ["its ratings do not follow from its votes"])[0], where=where)


def _schema(table: Table) -> pa.Schema:
    kinds = {BigInteger: pa.int64(), Integer: pa.int32(), Double: pa.float64()}
    return pa.schema(
        [pa.field(column.name, kinds.get(type(column.type), pa.string()), column.nullable) for column in table.columns]
    )


def _table(connection: Connection, table: Table) -> pa.Table:
    """Rows in the order of their keys, so that equal contents are equal files."""
    rows = connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
    return pa.Table.from_pylist([dict(row) for row in rows], schema=_schema(table))


def _digest(table: pa.Table) -> str:
    return digest(table.to_pylist())
