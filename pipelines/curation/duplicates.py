"""Exact duplicates: rows that say what an earlier row says, whichever sources the two come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from pipelines.core import sql, step, storage
from pipelines.core.determinism import digest
from pipelines.core.progress import say
from pipelines.core.records import Row, filtered
from pipelines.core.segment import Rows
from pipelines.core.stage import Lookup
from pipelines.core.storage import Place, Version


class Duplicates:
    """Lists the duplicates, which `MarkDuplicates` then filters; hands on the rows as they are.

    Args:
        sources: names in the order of the config: of equal rows the first source's stays.
    """

    name = "duplicates"

    def __init__(self, sources: Sequence[str]) -> None:
        self.sources = list(sources)

    @classmethod
    def file(cls, work: Place) -> Place:
        """Where the list is."""
        return work / cls.name / "duplicates.parquet"

    def depends(self, before: Rows) -> step.Depends:
        """The rows and the order of their sources."""
        return {"before": before.fingerprint, "sources": self.sources}

    def run(self, work: Place, before: Rows) -> Rows:
        """Find them in a worker: the driver's memory stays flat however large the mixture is."""
        import ray

        def write(folder: Place) -> step.Result:
            count = ray.get(ray.remote(find_duplicates).remote(before.folder, self.file(work), self.sources))
            return {"rows": count, "listed": listed(self.file(work), "rank")}

        # What follows depends on the list: another order of the sources that lists the same rows changes nothing.
        done = step.once(work / self.name, self.depends(before), write, cheap=True)
        say(f"{self.name}: {done['rows']} rows")
        return replace(before, fingerprint=digest(before.fingerprint, done["listed"]))

    def describe(self) -> list[str]:
        """One line."""
        return ["exact duplicates: all but the first of the rows with the same content"]


def find_duplicates(rows: Place, out: Place, sources: Sequence[str]) -> int:
    """Write a parquet file (raw_id, rank) of all `ok` rows but the first of each group with the same content.

    Args:
        rows: folder of ingested rows.
        out: the file to write; `rank` is 1 for the second row of a group, 2 for the third.
        sources: their order comes before the position in a source; sources that are not named come last.

    Returns:
        How many rows it lists.
    """
    with storage.draft(out) as local, sql.connect(rows=rows) as connection:
        connection.execute("create table sources (source varchar, place integer)")
        for place, source in enumerate(sources):
            connection.execute("insert into sources values (?, ?)", [source, place])
        # Two steps, so that only rows that have a twin are ever sorted.
        connection.execute(
            f"""
            copy (
                with ok as (select raw_id, source, content_hash from rows where status = 'ok'),
                repeated as (select content_hash from ok group by content_hash having count(*) > 1),
                ranked as (
                    select raw_id, row_number() over (
                        partition by content_hash order by place nulls last, source, raw_id
                    ) - 1 as rank
                    from ok join repeated using (content_hash) left join sources using (source)
                )
                select raw_id, cast(rank as integer) as rank from ranked where rank > 0 order by raw_id
            ) to {sql.quoted(str(local))} (format parquet)
            """
        )
    return storage.read_table(out, ["rank"]).num_rows


def listed(file: Place, *columns: str) -> str:
    """Digest of what a list of rows says in these columns, however it is laid out."""
    table = storage.read_table(file, ["raw_id", *columns]).sort_by("raw_id")
    return digest(table.to_pydict())


class MarkDuplicates(Lookup):
    """Filters exact duplicates and gives each a row_id of its own: of n equal rows the first stays.

    Args:
        duplicates: the file of `find_duplicates`.
    """

    name = "duplicates"
    reads = ("raw_id", "row_id")

    def __init__(self, duplicates: Place) -> None:
        self.duplicates = duplicates

    def known(self) -> dict[str, int]:
        return _ranks(storage.version(self.duplicates))

    def look_up(self, row: Row, known: dict[str, int]) -> None:
        if (rank := known.get(row["raw_id"])) is not None:
            row["row_id"] = f"{row['row_id']}-{rank}"
            row["status"] = filtered("duplicate")


@cache
def _ranks(duplicates: Version) -> dict[str, int]:
    table = storage.read_table(duplicates.place)
    return dict(zip(table["raw_id"].to_pylist(), table["rank"].to_pylist(), strict=True))
