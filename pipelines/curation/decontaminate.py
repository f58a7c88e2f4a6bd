"""Decontamination: filter rows whose prompt is a benchmark's, or shares a long run of words with one."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Any

import pyarrow.compute as pc
import regex  # type: ignore[import-untyped]

from pipelines.core import sql, step, storage
from pipelines.core.commits import ROWS
from pipelines.core.errors import UserError
from pipelines.core.records import OK, OVERLAPS, Row, filtered
from pipelines.core.run import Run
from pipelines.core.stage import Stage
from pipelines.core.storage import Place, Version

WORD = regex.compile(r"\w+")
# A text or a run of words that so many rows of one benchmark share is its boilerplate, not a prompt.
BOILERPLATE = 10

Index = dict[int, frozenset[str]]


class Decontaminate(Stage):
    """Filters rows that overlap with a benchmark, and notes with which.

    Instruction and context are looked up apart: the prompt of a chat, the document of a fact check. A text overlaps
    if it equals a benchmark's (words alone, without case), or has a run of `ngram` words in common with one.

    Args:
        texts: parquet file (benchmark, text) of the benchmarks' instructions and contexts.
        ngram: words of a run. Runs of 13, as GPT-3 used on web pages (arXiv 2005.14165, appendix C), miss 4 of the 14
            prompts that PandaLM shares with InFoBench; runs of 8 find all.
    """

    name = "decontaminate"
    reads = ("instruction", "context")
    adds = tuple(OVERLAPS)

    def __init__(self, texts: Place, ngram: int) -> None:
        self.texts, self.ngram = texts, ngram

    def depends(self) -> dict[str, Any]:
        return {"texts": storage.content_digest(self.texts), "ngram": self.ngram}

    def apply(self, row: Row) -> None:
        index = _index(storage.version(self.texts), self.ngram)
        found: set[str] = set()
        for text in (row["instruction"], row["context"]):
            for key in index.keys() & set(keys(text or "", self.ngram)):
                found |= index[key]
        row["overlaps"] = sorted(found)
        if found:
            row["status"] = filtered(f"contaminated:{row['overlaps'][0]}")


def still_clean(run: Run, added: Decontaminate) -> bool:
    """Whether the rows that a run has begun to prepare are free of texts that were added since.

    Args:
        run: whose rows to look at.
        added: the stage with those texts alone.

    Returns:
        False where nothing is prepared yet: such texts are then looked for like all others.

    Raises:
        UserError: rows have them.
    """
    prepared = run.work / "prepare"
    if not storage.holds_files(prepared, but=(step.CLAIM, step.JOURNAL)):
        return False
    rows = (prepared if step.result_of(prepared) else run.work / "ingest") / ROWS
    hits: Counter[str] = Counter()
    for batch in storage.read_batches(rows, ["status", *added.reads], keep=pc.field("status") == OK):
        for row in batch.to_pylist():
            added.apply(row)
            hits.update(row["overlaps"])
    if hits:
        named = ", ".join(f"{benchmark} ({n} rows)" for benchmark, n in hits.most_common(3))
        raise UserError(
            f"training rows overlap with benchmarks that have changed or were added since: {named}",
            where=str(prepared),
            fix="leave them out of evaluation.benchmarks, or choose another out_dir",
        )
    return True


def keys(text: str, ngram: int) -> Iterator[int]:
    """A key of a text's words as a whole, and of each run of `ngram` of them.

    Keys are Python's own hashes of 64 bits, quick to make and other ones in every process: they are never written.
    With ten million runs in the index and a billion looked up, one job in 2,000 meets a chance match.
    """
    words = WORD.findall(text.casefold())
    runs = zip(*(words[i:] for i in range(ngram)), strict=False)
    return chain([hash(("whole", *words))] if words else [], map(hash, runs))


def build_index(texts: Iterable[tuple[str, str]], ngram: int) -> Index:
    """Key -> the benchmarks that have it in at most BOILERPLATE different texts."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    for benchmark, text in sorted(set(texts)):
        counts[benchmark].update(set(keys(text, ngram)))
    index: dict[int, set[str]] = defaultdict(set)
    for benchmark, seen in counts.items():
        for key, n in seen.items():
            if n <= BOILERPLATE:
                index[key].add(benchmark)
    return {key: frozenset(names) for key, names in index.items()}


def overlap_table(rows: Place) -> dict[str, dict[str, dict[str, int]]]:
    """Source -> benchmark -> rows that overlap, and distinct instructions among them."""
    table: dict[str, dict[str, dict[str, int]]] = {}
    with sql.connect(rows=rows) as connection:
        found: list[Any] = connection.execute(
            """
            with named as (select source, instruction, unnest("overlaps") as benchmark from rows)
            select source, benchmark, count(*), count(distinct instruction) from named group by all order by all
            """
        ).fetchall()
    for source, benchmark, n, distinct in found:
        table.setdefault(source, {})[benchmark] = {"rows": n, "instructions": distinct}
    return table


@cache
def _index(texts: Version, ngram: int) -> Index:
    table = storage.read_table(texts.place)
    return build_index(zip(table["benchmark"].to_pylist(), table["text"].to_pylist(), strict=True), ngram)
