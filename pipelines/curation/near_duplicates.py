"""Near duplicates: rows with the same label, every part of which shares nearly all of its word n-grams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core import sql, step, storage
from pipelines.core.determinism import digest, integer
from pipelines.core.progress import say
from pipelines.core.records import Row, filtered
from pipelines.core.segment import Rows
from pipelines.core.stage import Lookup
from pipelines.core.storage import Place, Version
from pipelines.curation.config import NearDuplicatesConfig
from pipelines.curation.duplicates import Duplicates, listed
from pipelines.curation.words import words_of
from pipelines.judging.tasks import TASKS

TEXTS = ("instruction", "context", "reference", "rubric")
PARTS = (*TEXTS, "response", "better", "worse")
# Bands of two MinHash slots of each part. Rows with two parts of similarity 0.9, the others equal, share one of the 32
# with a chance of 1 - (1 - 0.9^4)^32 > 0.9999; the bands only propose, and what they propose is compared exactly. As
# every part counts, the claims on one document fall into different bands, and none hides another's twin.
BANDS, WIDTH = 32, 2
LABEL, MULTIPLIERS = np.split(
    np.random.default_rng(0).integers(2**64, size=1 + len(PARTS) * WIDTH, dtype=np.uint64), [1]
)
SIGNATURES = pa.schema([("raw_id", pa.string()), ("source", pa.string()), ("bands", pa.list_(pa.uint64()))])
NEAR = pa.schema([("raw_id", pa.string()), ("twin", pa.string()), ("similarity", pa.float64())])


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
            files = (signatures, before.folder, Duplicates.file(work), self.file(work))
            count = ray.get(task(match).remote(*files, self.config, self.sources))
            storage.remove(signatures)
            return {"rows": count, "listed": listed(self.file(work))}

        # As with exact duplicates: another order or threshold that lists the same rows changes nothing.
        done = step.once(work / self.name, self.depends(before), write, cheap=True)
        say(f"{self.name}: {done['rows']} rows")
        return replace(before, fingerprint=digest(before.fingerprint, done["listed"]))

    def describe(self) -> list[str]:
        """One line."""
        return [f"near duplicates: every part of a similarity of at least {self.config.threshold:g}, same label"]


def parts(row: Row) -> dict[str, list[str]]:
    """The texts of each part of a row that has one.

    What distinguishes the responses of a pair is which one is preferred, not their position: a pair whose sides and
    label are swapped is the same pair, and one with the other label is not.
    """
    better = _preferred(row)
    names = ("worse", "better") if len(better) == 1 else ("response", "response")
    found = {name: [row[name]] for name in TEXTS if row[name]}
    for place, text in enumerate(row["responses"] or []):
        found.setdefault(names[place in better], []).append(text or "")
    return found


def shingles(text: str, n: int) -> frozenset[str]:
    """The word n-grams of a text; of a shorter one all words, of one without words its characters."""
    words = words_of(text)
    if len(words) <= n:
        return frozenset(filter(None, [" ".join(words) or text.strip()]))
    # Zipped with itself moved by one, two, ... words: the n-grams, without a loop in Python.
    return frozenset(map(" ".join, zip(*(words[i:] for i in range(n)), strict=False)))


def similarity(one: Row, other: Row, n: int) -> float:
    """The Jaccard similarity of the n-grams of two rows with the same label, in the part that is least alike.

    A long document that two rows share says nothing of the claims on it, nor a long response of the short one beside
    it. The responses of a tie are compared in the order that suits.
    """
    first, second = parts(one), parts(other)
    return min((_alike(first.get(name, []), second.get(name, []), n) for name in PARTS), default=1.0)


def _alike(texts: list[str], others: list[str], n: int) -> float:
    if texts == others:
        return 1.0
    if len(texts) != len(others):
        return 0.0
    mine, theirs = ([shingles(text, n) for text in side] for side in (texts, others))
    return max(min(map(_jaccard, mine, order)) for order in (theirs, theirs[::-1]))


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def label(row: Row) -> str:
    """What two rows must have in common to be duplicates: task, verdict and its scale; of a pair, whether it is a tie.

    A 5 of 5 is not a 5 of 10.
    """
    better = _preferred(row)
    return f"{row['task']}\t{len(better) > 1 if better else (row['verdict'], sorted(map(str, row['allowed'] or [])))}"


def _preferred(row: Row) -> list[int]:
    """The preferred responses of a pair, both of them in a tie; none where the responses have no order."""
    task = TASKS[row["task"]]
    return task.endorsed(row["verdict"], []) if task.ordered else []


def sign(rows: Place, target: Place, ngram: int) -> None:
    """Write the bands of the ok rows of one ingested file: rows that are alike agree in one of them at least."""
    columns = ["raw_id", "source", "task", *TEXTS, "responses", "allowed", "verdict", "status"]
    # Not compressed: signatures are noise, and soon removed.
    with storage.table_writer(target, SIGNATURES, compression="none", use_dictionary=False) as writer:
        for batch in storage.read_batches(rows, columns, keep=pc.field("status") == "ok"):
            found = batch.to_pylist()
            signed = {
                "raw_id": [row["raw_id"] for row in found],
                "source": [row["source"] for row in found],
                "bands": lists(bands(found, ngram).ravel(), BANDS),
            }
            writer.write_table(pa.table(signed, schema=SIGNATURES))


def bands(rows: Sequence[Row], ngram: int) -> np.ndarray:
    """One number for each band of each row, equal for rows that agree in it and in the label; (rows, BANDS)."""
    from rensa import RMinHash  # type: ignore[import-untyped]

    labels = [label(row) for row in rows]
    numbers = {text: integer(0, "label", text) for text in set(labels)}
    sums = np.array([[numbers[text]] for text in labels], np.uint64) * LABEL + np.arange(BANDS, dtype=np.uint64)
    split = [parts(row) for row in rows]
    for place, name in enumerate(PARTS):
        having = [number for number, found in enumerate(split) if name in found]
        sets = [list(frozenset().union(*(shingles(text, ngram) for text in split[number][name]))) for number in having]
        slots = np.array(RMinHash.digests_from_token_sets(sets, num_perm=BANDS * WIDTH, seed=place), np.uint64)
        factors = MULTIPLIERS[place * WIDTH : (place + 1) * WIDTH]
        # The products overflow, as they should: sums modulo 2^64 are a universal hash.
        sums[having] += (slots.reshape(-1, BANDS, WIDTH) * factors).sum(axis=2, dtype=np.uint64)
    return sums


def lists(values: np.ndarray, size: int) -> pa.ListArray:
    """An Arrow column of lists that all have `size` members."""
    return pa.ListArray.from_arrays(np.arange(0, len(values) + 1, size, dtype=np.int32), values)


def match(
    signatures: Place, rows: Place, duplicates: Place, out: Place, config: NearDuplicatesConfig, sources: Sequence[str]
) -> int:
    """Write a parquet file (raw_id, twin, similarity) of the rows that nearly repeat an earlier one that stays.

    Each row is compared with the first row of every band it falls into, so the work grows with the rows and not with
    their pairs, however often one text comes up. Exact duplicates are left out: they are filtered already.

    Args:
        signatures: folder that `sign` wrote into.
        rows: folder of the ingested rows.
        duplicates: file of `find_duplicates`.
        out: the file to write.
        config: what counts as similar.
        sources: their order comes before the position in a source.

    Returns:
        How many rows it lists.
    """
    leaving: dict[str, tuple[str, float]] = {}
    for row, earlier in _proposed(signatures, rows, duplicates, sources):
        if row["raw_id"] in leaving or earlier["raw_id"] in leaving:
            continue
        if (alike := similarity(row, earlier, config.ngram)) >= config.threshold:
            leaving[row["raw_id"]] = (earlier["raw_id"], alike)
    found = [{"raw_id": one, "twin": twin, "similarity": alike} for one, (twin, alike) in sorted(leaving.items())]
    storage.write_table(out, pa.Table.from_pylist(found, schema=NEAR))
    return len(found)


def _proposed(signatures: Place, rows: Place, duplicates: Place, sources: Sequence[str]) -> Iterator[tuple[Row, Row]]:
    """Pairs of a row and an earlier one with a band in common, in the order of the later and then of the earlier."""
    columns = ("raw_id", "task", *TEXTS, "responses", "verdict")
    with sql.connect(signatures=signatures, duplicates=duplicates, rows=rows) as connection:
        connection.execute("create table sources (source varchar, place integer)")
        for place, source in enumerate(sources):
            connection.execute("insert into sources values (?, ?)", [source, place])
        connection.execute(
            """
            create table signed as
            select row_number() over (order by place nulls last, source, raw_id) as number, raw_id, bands
            from signatures left join sources using (source)
            where raw_id not in (select raw_id from duplicates)
            """
        )
        connection.execute(
            """
            create table proposed as
            with spread as (select number, unnest(bands) as band from signed),
            heads as (select band, min(number) as head from spread group by band having count(*) > 1)
            select distinct number, head from spread join heads using (band) where number > head
            """
        )
        read = ", ".join(f"{side}.{name}" for side in ("later", "earlier") for name in columns)
        found = connection.execute(
            f"""
            select {read} from proposed
            join signed as a using (number) join rows as later on later.raw_id = a.raw_id
            join signed as b on b.number = head join rows as earlier on earlier.raw_id = b.raw_id
            order by number, head
            """
        )
        while batch := found.fetchmany(1000):
            for values in batch:
                later, earlier = values[: len(columns)], values[len(columns) :]
                yield dict(zip(columns, later, strict=True)), dict(zip(columns, earlier, strict=True))


class NotNearDuplicate(Lookup):
    """Filters rows that nearly repeat an earlier one.

    Args:
        twins: the file of `match`.
    """

    name = "near_duplicates"
    reads = ("raw_id",)

    def __init__(self, twins: Place) -> None:
        self.twins = twins

    def known(self) -> frozenset[str]:
        return _listed(storage.version(self.twins))

    def look_up(self, row: Row, known: frozenset[str]) -> None:
        if row["raw_id"] in known:
            row["status"] = filtered("near_duplicate")


@cache
def _listed(twins: Version) -> frozenset[str]:
    return frozenset(storage.read_table(twins.place, ["raw_id"])["raw_id"].to_pylist())
