"""The ledger: for every segment and source, rows in = ok + filtered + error, each row once."""

from __future__ import annotations

from typing import Any

from pipelines.core import sql
from pipelines.core.errors import LedgerError, TooManyErrors
from pipelines.core.records import kind
from pipelines.core.storage import Place

MEMORY = "100MB"  # of DuckDB, in the driver: 5.8 million ids are counted in it as 0.6 million are

Counts = dict[str, int]
Entry = dict[str, Any]


def count_rows(folder: Place, id_column: str, only_ok: bool = False) -> Counts:
    """Rows per source in a folder of parquet files.

    Raises:
        LedgerError: an id appears more than once.
    """
    where = "where status = 'ok'" if only_ok else ""
    counts: Counts = {}
    # Not count(distinct ...), which DuckDB holds in memory: a group by spills.
    each = f"select source, {id_column}, count(*) as n from rows {where} group by all"
    for source, n, distinct in _query(
        folder, f"select source, cast(sum(n) as bigint), count(*) from ({each}) group by source"
    ):
        if n != distinct:
            raise LedgerError(f"{folder}: source '{source}' has {n} rows but {distinct} distinct {id_column}s")
        counts[source] = n
    return counts


def count_status(folder: Place) -> dict[str, Counts]:
    """Source -> status -> rows in a folder of parquet files."""
    table: dict[str, Counts] = {}
    for source, status, n in _query(folder, "select source, status, count(*) from rows group by 1, 2"):
        table.setdefault(source, {})[status or "error:no_status"] = n
    return table


def balance(segment: str, rows_in: Counts, rows_out: dict[str, Counts]) -> Entry:
    """The ledger entry of one segment.

    Raises:
        LedgerError: a source's rows do not add up.
    """
    entry: Entry = {}
    for source in sorted(rows_in.keys() | rows_out.keys()):
        totals: Counts = {"ok": 0, "filtered": 0, "error": 0}
        reasons: Counts = {}
        for status, n in sorted(rows_out.get(source, {}).items()):
            totals[kind(status)] += n
            if kind(status) != "ok":
                # The reason without its detail, so that the ledger stays a page long.
                short = ":".join(status.split(":")[:3])
                reasons[short] = reasons.get(short, 0) + n
        entry[source] = {"in": rows_in.get(source, 0), **totals, "reasons": reasons}
        if entry[source]["in"] != sum(totals.values()):
            raise LedgerError(
                f"segment '{segment}', source '{source}': {entry[source]['in']} rows in, but "
                f"{totals['ok']} ok + {totals['filtered']} filtered + {totals['error']} error out"
            )
    return entry


def check_error_share(segment: str, entry: Entry, most: float) -> None:
    """Fail a segment in which too many rows ended as errors.

    Raises:
        TooManyErrors: naming the commonest reason.
    """
    rows = sum(source["in"] for source in entry.values())
    errors = sum(source["error"] for source in entry.values())
    if rows and errors / rows > most:
        reasons: Counts = {}
        for source in entry.values():
            for reason, n in source["reasons"].items():
                if reason.startswith("error"):
                    reasons[reason] = reasons.get(reason, 0) + n
        worst = max(reasons, key=reasons.__getitem__)
        raise TooManyErrors(
            f"segment '{segment}': {errors} of {rows} rows ended as errors, most of them as '{worst}'; "
            f"max_error_share is {most}"
        )


def _query(folder: Place, query: str) -> list[tuple[Any, ...]]:
    """Run SQL over the parquet files of a folder as `rows`."""
    with sql.connect(MEMORY, rows=folder) as connection:
        return connection.execute(query).fetchall()
