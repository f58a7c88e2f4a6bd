"""Conflicts: the same content with contradicting labels, as several annotators leave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from pipelines.core import sql, step, storage
from pipelines.core.determinism import digest
from pipelines.core.progress import say
from pipelines.core.records import Row, filtered
from pipelines.core.segment import Rows
from pipelines.core.stage import Lookup, Stage
from pipelines.core.storage import Place, Version
from pipelines.curation.duplicates import listed
from pipelines.judging.tasks import TASKS


class Conflicts:
    """Lists the rows whose content has other labels too, counts them, and hands on the rows as they are.

    The marker has, per source, how many rows that are.
    """

    name = "conflicts"

    @classmethod
    def file(cls, work: Place) -> Place:
        """Where the list is."""
        return work / cls.name / "conflicts.parquet"

    def depends(self, before: Rows) -> step.Depends:
        """The rows."""
        return {"before": before.fingerprint}

    def run(self, work: Place, before: Rows) -> Rows:
        """Find them in a worker."""
        import ray

        def write(folder: Place) -> step.Result:
            found = ray.get(ray.remote(find_conflicts).remote(before.folder, self.file(work)))
            return {"rows": sum(found.values()), "sources": found, "listed": listed(self.file(work), "outvoted")}

        result = step.once(work / self.name, self.depends(before), write, cheap=True)
        if found := result["sources"]:
            counts = ", ".join(f"{source} {n}" for source, n in found.items())
            say(f"{self.name}: {result['rows']} rows have the content of a row with another label: {counts}")
        return replace(before, fingerprint=digest(before.fingerprint, result["listed"]))

    def describe(self) -> list[str]:
        """One line."""
        return ["conflicts: rows with the same content and contradicting labels"]


def find_conflicts(rows: Place, out: Place) -> dict[str, int]:
    """Write a parquet file (raw_id, outvoted) of the `ok` rows whose content other rows give another label.

    A pair whose responses and label are swapped says the same. `outvoted` is false for the rows of the label that more
    rows have than any other: every row votes, exact duplicates too, as they are other annotators.

    Args:
        rows: folder of ingested rows.
        out: the file to write.

    Returns:
        Source -> how many rows it lists.
    """
    ordered = ", ".join(sql.quoted(task.name) for task in TASKS.values() if task.ordered)
    with storage.draft(out) as local, sql.connect(rows=rows) as connection:
        connection.execute("create table opposite (verdict varchar, other varchar)")
        for verdict in ("A", "B"):
            connection.execute("insert into opposite values (?, ?)", [verdict, TASKS["pairwise"].opposite(verdict)])
        connection.execute(
            f"""
            create table labelled as
            select raw_id, source,
                hash(
                    task, instruction, coalesce(context, ''), coalesce(reference, ''), coalesce(rubric, ''),
                    list_sort(allowed), case when task in ({ordered}) then list_sort(responses) else responses end
                ) as content,
                case when task in ({ordered}) and responses[1] > responses[2] then coalesce(other, verdict)
                else verdict end as label
            from rows left join opposite using (verdict) where status = 'ok' and verdict is not null
            """
        )
        connection.execute(
            f"""
            copy (
                with votes as (select content, label, count(*) as n from labelled group by all),
                contested as (
                    select content, max(n) as most, arg_max(label, n) as winner, list(n) as counts
                    from votes group by content having count(*) > 1
                )
                select raw_id, source,
                    label <> winner or len(list_filter(counts, lambda n: n = most)) > 1 as outvoted
                from labelled join contested using (content) order by raw_id
            ) to {sql.quoted(str(local))} (format parquet)
            """
        )
    with sql.connect(found=out) as connection:
        counts = connection.execute("select source, count(*) from found group by source order by source").fetchall()
    return dict(counts)


class NoConflict(Lookup):
    """Filters rows with contradicting labels.

    Args:
        contested: the file of `find_conflicts`.
        policy: `drop` filters all of them, `majority` those whose label is not the commonest of their content; where
            no label is, all of them.
    """

    name = "conflicts"
    reads = ("raw_id",)

    def __init__(self, contested: Place, policy: str) -> None:
        self.contested, self.policy = contested, policy

    def depends(self) -> dict[str, Any]:
        return {"policy": self.policy}

    def known(self) -> frozenset[str]:
        return _leaving(storage.version(self.contested), self.policy)

    def look_up(self, row: Row, known: frozenset[str]) -> None:
        if row["raw_id"] in known:
            row["status"] = filtered("conflicting_label")


def conflict_filter(contested: Place, policy: str) -> Sequence[Stage]:
    """The filter for a policy; none for `keep`."""
    return [] if policy == "keep" else [NoConflict(contested, policy)]


@cache
def _leaving(contested: Version, policy: str) -> frozenset[str]:
    table = storage.read_table(contested.place)
    chosen = table if policy == "drop" else table.filter(table["outvoted"])
    return frozenset(chosen["raw_id"].to_pylist())
