"""The ledger: for every segment and source, rows in = ok + filtered + error, each row once."""

from __future__ import annotations

from typing import Any

from pipelines.core import sql, storage
from pipelines.core.errors import LedgerError, TooManyErrors
from pipelines.core.records import kind
from pipelines.core.storage import Place

MEMORY = "100MB"  # of DuckDB, in the driver: 5.8 million ids are counted in it as 0.6 million are

ENOUGH = 200  # rows before a segment is ended for its errors while it runs

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
                short = short_reason(status)
                reasons[short] = reasons.get(short, 0) + n
        entry[source] = {"in": rows_in.get(source, 0), **totals, "reasons": reasons}
        if entry[source]["in"] != sum(totals.values()):
            raise LedgerError(
                f"segment '{segment}', source '{source}': {entry[source]['in']} rows in, but "
                f"{totals['ok']} ok + {totals['filtered']} filtered + {totals['error']} error out"
            )
    return entry


def common_reasons(entry: Entry, most: int = 3) -> list[str]:
    """Per source that lost rows, one line with the commonest reasons."""
    lines = []
    for source, counts in entry.items():
        if lost := counts["filtered"] + counts["error"]:
            lines.append(f"{source}: {lost} of {counts['in']} left: {top(counts['reasons'], most)}")
    return lines


def top(reasons: Counts, most: int = 3) -> str:
    """The commonest of some reasons, each with its number."""
    ranked = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    more = f" and {len(ranked) - most} more" if len(ranked) > most else ""
    return ", ".join(f"{reason} {n}" for reason, n in ranked[:most]) + more


def check_error_share(segment: str, entry: Entry, most: float, example: str | None = None) -> None:
    """Fail a segment in which too many rows ended as errors.

    Args:
        segment: its name.
        entry: of the ledger.
        most: share of the rows that may be errors.
        example: the whole status of a row with the commonest error.

    Raises:
        TooManyErrors: with the commonest reasons.
    """
    rows = sum(source["in"] for source in entry.values())
    reasons: Counts = {}
    for source in entry.values():
        for reason, n in source["reasons"].items():
            if kind(reason) == "error":
                reasons[reason] = reasons.get(reason, 0) + n
    if rows and (errors := sum(reasons.values())) / rows > most:
        raise TooManyErrors(_too_many(segment, errors, rows, reasons, most, example))


def commonest_error(folder: Place) -> str | None:
    """The commonest whole status among the error rows of a folder."""
    query = "select status from rows where status like 'error%' group by 1 order by count(*) desc, 1 limit 1"
    found = _query(folder, query)
    return found[0][0] if found else None


class Tally:
    """Rows and errors of a segment while it runs, from the files that are there; each is read once.

    Args:
        segment: its name.
        folder: of its rows.
        most: share of the rows that may be errors.
    """

    def __init__(self, segment: str, folder: Place, most: float) -> None:
        self.segment, self.folder, self.most = segment, folder, most
        self.counted: set[Place] = set()
        self.statuses: Counts = {}

    @property
    def rows(self) -> int:
        """Rows in the files counted."""
        return sum(self.statuses.values())

    def look(self) -> Counts:
        """Rows by status, with those of the files that have come."""
        for path in storage.files(self.folder, ".parquet"):
            if path not in self.counted and (found := storage.column_values(path, "status")) is not None:
                self.counted.add(path)
                for status in found:
                    self.statuses[status or "error:no_status"] = self.statuses.get(status or "error:no_status", 0) + 1
        return self.statuses

    def too_many(self, total: int) -> str | None:
        """Why the segment may as well end now, if it does: of at least `ENOUGH` rows, and one in a hundred, too many
        are errors.
        """
        self.look()
        errors = {status: n for status, n in self.statuses.items() if kind(status) == "error"}
        wrong = sum(errors.values())
        if self.rows < max(ENOUGH, total / 100) or wrong / self.rows <= self.most:
            return None
        reasons: Counts = {}
        for status, n in errors.items():
            reasons[short_reason(status)] = reasons.get(short_reason(status), 0) + n
        example = max(errors, key=errors.__getitem__)
        return _too_many(self.segment, wrong, self.rows, reasons, self.most, example, f" of {total} so far")


def _too_many(
    segment: str, errors: int, rows: int, reasons: Counts, most: float, example: str | None, so_far: str = ""
) -> str:
    shown = f"; one in full: '{example}'" if example else ""
    return (
        f"segment '{segment}': {errors} of {rows} rows{so_far} ended as errors ({top(reasons)}){shown}; "
        f"max_error_share is {most}. Mend the cause and run again with --retry-errors"
    )


def short_reason(status: str) -> str:
    """A status without its detail, so that the ledger stays a page long."""
    return ":".join(status.split(":")[:3])


def _query(folder: Place, query: str) -> list[tuple[Any, ...]]:
    """Run SQL over the parquet files of a folder as `rows`."""
    with sql.connect(MEMORY, rows=folder) as connection:
        return connection.execute(query).fetchall()
