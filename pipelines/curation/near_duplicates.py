"""Near duplicates: rows with the same label whose texts share nearly all of their word n-grams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import regex  # type: ignore[import-untyped]

from pipelines.core import sql, step, storage
from pipelines.core.progress import say
from pipelines.core.records import Row
from pipelines.core.segment import Rows
from pipelines.core.stage import Filter
from pipelines.core.storage import Place, Version
from pipelines.curation.config import NearDuplicatesConfig
from pipelines.curation.duplicates import Duplicates
from pipelines.judging.tasks import TASKS

WORD = regex.compile(r"\w+")
# 128 slots in 16 bands of 8: a pair of similarity 0.8 shares a band with a chance of 0.95, one of 0.9 of 0.9999
# (1 − (1 − s⁸)¹⁶). What the bands propose is measured on all slots.
SLOTS, BANDS = 128, 16
SIGNATURES = pa.schema(
    [
        ("raw_id", pa.string()),
        ("source", pa.string()),
        ("label", pa.string()),
        ("digest", pa.list_(pa.uint32())),
    ]
)


class NearDuplicates:
    """Lists the near duplicates, which `NotNearDuplicate` then filters; hands on the rows as they are.

    Args:
        sources: names in the order of the config: of similar rows the first source's stays.
        config: what counts as similar.
    """

    name = "near_duplicates"

    def __init__(self, sources: Sequence[str], config: NearDuplicatesConfig) -> None:
        self.sources, self.config = list(sources), config

    @classmethod
    def file(cls, work: Place) -> Place:
        """Where the list is."""
        return work / cls.name / "near_duplicates.parquet"

    def depends(self, before: Rows) -> step.Depends:
        """The rows, the order of their sources, and what counts as similar."""
        return {"before": before.fingerprint, "sources": self.sources, "config": self.config.identity()}

    def run(self, work: Place, before: Rows) -> Rows:
        """Sign every ingested file in a Ray task of its own, then match the signatures in one."""
        import ray

        def write(folder: Place) -> step.Result:
            signatures, task = storage.fresh(folder / "signatures"), ray.remote(num_cpus=1)
            signing = task(sign)
            paths = storage.files(before.folder, ".parquet")
            ray.get([signing.remote(path, signatures / path.name, self.config.ngram) for path in paths])
            exact = Duplicates.file(work)
            listed = task(match).remote(signatures, exact, self.file(work), self.config.threshold, self.sources)
            count = ray.get(listed)
            storage.remove(signatures)
            return {"rows": count}

        depends = self.depends(before)
        if done := step.finished(work / self.name, depends):
            say(f"{self.name}: already done, {done['rows']} rows")
        return replace(before, fingerprint=step.once(work / self.name, depends, write)["fingerprint"])

    def describe(self) -> list[str]:
        """One line."""
        return [f"near duplicates: similarity of at least {self.config.threshold:g}, same label"]


def shingles(row: Row, n: int) -> list[str]:
    """The word n-grams of a row, each marked with the part it comes from.

    What distinguishes the responses of a pair is which one is preferred, not their position: a pair whose sides and
    label are swapped is the same pair, and one with the other label is not.
    """
    parts = {name: row[name] for name in ("instruction", "context", "rubric")}
    responses = row["responses"] or []
    if better := _preferred(row):
        order = (better[0], 1 - better[0])
        names = ("response", "response") if len(better) > 1 else ("better", "worse")
        for name, i in zip(names, order, strict=True):
            parts[name] = " ".join(filter(None, (parts.get(name), responses[i] if i < len(responses) else None)))
    else:
        parts["response"] = " ".join(filter(None, responses))
    found: list[str] = []
    for name, text in parts.items():
        words = WORD.findall((text or "").casefold())
        if words:
            # Zipped with itself moved by one, two, ... words: the n-grams, without a loop in Python.
            grams = zip(*(words[i:] for i in range(n)), strict=False) if len(words) > n else [tuple(words)]
            found += map(f"{name}\t".__add__, map(" ".join, grams))
    return found


def label(row: Row) -> str:
    """What two rows must have in common to be duplicates: task and verdict; of a pair, whether it is a tie."""
    better = _preferred(row)
    return f"{row['task']}\t{len(better) > 1 if better else row['verdict']}"


def _preferred(row: Row) -> list[int]:
    """The preferred responses of a pair, both of them in a tie; none where the responses have no order."""
    task = TASKS[row["task"]]
    return task.endorsed(row["verdict"], []) if task.ordered else []


def sign(rows: Place, target: Place, ngram: int) -> None:
    """Write the MinHash signatures of the ok rows of one ingested file."""
    from rensa import RMinHash  # type: ignore[import-untyped]

    columns = ["raw_id", "source", "task", "instruction", "context", "rubric", "responses", "verdict", "status"]
    # Not compressed: signatures are noise, and soon removed.
    with storage.table_writer(target, SIGNATURES, compression="none", use_dictionary=False) as writer:
        for batch in storage.read_batches(rows, columns, keep=pc.field("status") == "ok"):
            # Rows without a word have nothing to compare: to MinHash they would all be alike.
            kept = [(row, words) for row in batch.to_pylist() if (words := shingles(row, ngram))]
            digests = RMinHash.digests_from_token_sets([words for _, words in kept], num_perm=SLOTS, seed=0)
            signed = {
                "raw_id": [row["raw_id"] for row, _ in kept],
                "source": [row["source"] for row, _ in kept],
                "label": [label(row) for row, _ in kept],
                "digest": lists(np.array(digests, dtype=np.uint32).ravel(), SLOTS),
            }
            writer.write_table(pa.table(signed, schema=SIGNATURES))


def lists(values: np.ndarray, size: int) -> pa.ListArray:
    """An Arrow column of lists that all have `size` members."""
    return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, size, dtype=np.int32), values)


def match(signatures: Place, duplicates: Place, out: Place, threshold: float, sources: Sequence[str]) -> int:
    """Write a parquet file (raw_id, twin, similarity) of the rows that nearly repeat an earlier one.

    Each row is compared with the first row of every band it falls into, so the work grows with the rows and not with
    their pairs, however often one text comes up. Exact duplicates are left out: they are filtered already.

    Args:
        signatures: folder that `sign` wrote into.
        duplicates: file of `find_duplicates`.
        out: the file to write.
        threshold: least share of equal slots, which estimates the Jaccard similarity.
        sources: their order comes before the position in a source.

    Returns:
        How many rows it lists.
    """
    width = SLOTS // BANDS
    with storage.draft(out) as local, sql.connect(signatures=signatures, duplicates=duplicates) as connection:
        connection.execute("create table sources (source varchar, place integer)")
        for place, source in enumerate(sources):
            connection.execute("insert into sources values (?, ?)", [source, place])
        connection.execute(
            f"""
            create table signed as
            select row_number() over (order by place nulls last, source, raw_id) as number, raw_id, digest,
                -- One number for each band; equal for rows that agree on the band and on the label.
                list_transform(
                    range({BANDS}), lambda i: hash(label, i, digest[i * {width} + 1 : (i + 1) * {width}])
                ) as bands
            from signatures left join sources using (source)
            where raw_id not in (select raw_id from duplicates)
            """
        )
        connection.execute(
            f"""
            copy (
                with spread as (select number, unnest(bands) as band from signed),
                heads as (select band, min(number) as head from spread group by band having count(*) > 1),
                proposed as (select distinct number, head from spread join heads using (band) where number > head),
                measured as (
                    select later.raw_id, earlier.raw_id as twin, earlier.number as place,
                        len(list_filter(list_zip(later.digest, earlier.digest), lambda x: x[1] = x[2])) / {SLOTS}
                            as similarity
                    from proposed
                    join signed as later on later.number = proposed.number
                    join signed as earlier on earlier.number = proposed.head
                )
                select raw_id, arg_min(twin, place) as twin, arg_min(similarity, place) as similarity
                from measured where similarity >= {threshold} group by raw_id order by raw_id
            ) to {sql.quoted(str(local))} (format parquet)
            """
        )
    return storage.read_table(out, ["raw_id"]).num_rows


class NotNearDuplicate(Filter):
    """Filters rows that nearly repeat an earlier one.

    Args:
        twins: the file of `match`.
    """

    name = "near_duplicates"
    reads = ("raw_id",)

    def __init__(self, twins: Place) -> None:
        self.twins = twins

    def reason(self, row: Row) -> str | None:
        return "near_duplicate" if row["raw_id"] in _listed(storage.version(self.twins)) else None


@cache
def _listed(twins: Version) -> frozenset[str]:
    return frozenset(storage.read_table(twins.place, ["raw_id"])["raw_id"].to_pylist())
