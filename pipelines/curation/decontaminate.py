"""Decontamination: filter rows whose prompt is a benchmark's, or shares most of its words in long runs with one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from pipelines.core import sql, step, storage
from pipelines.core.commits import ROWS
from pipelines.core.errors import UserError
from pipelines.core.records import OK, OVERLAPS, Row, filtered
from pipelines.core.run import Run
from pipelines.core.stage import Lookup
from pipelines.core.storage import Place, Version
from pipelines.curation.config import DecontaminateConfig
from pipelines.curation.words import words_of

# A run of words that so many texts of one benchmark share is its boilerplate, not a prompt.
BOILERPLATE = 10
QUOTED = 30  # words of a run that a row's status quotes


class Overlap(NamedTuple):
    """What a text shares with a benchmark's: the longest run of words, in lower case."""

    benchmark: str
    run: str


class Match(NamedTuple):
    """How a text overlaps with one of the benchmarks'."""

    number: int
    """Of the benchmark's text in the index."""
    kind: str
    """`exact`: all words; `run`: one long run; `coverage`: shorter runs that make up a share of the shorter text;
    `boilerplate`: one of the last two, but only by runs that were said to be common, and a part of the benchmark's."""
    share: float
    """Words in shared runs, of those of the shorter text."""
    run: str
    """The longest run of words, in lower case."""


class Shared(NamedTuple):
    """The runs that a text has in common with one of the benchmarks'."""

    number: int
    """Of the benchmark's text in the index."""
    here: np.ndarray
    """Places of the runs' first words in the text, ascending."""
    theirs: np.ndarray
    """The same in the benchmark's text."""


class Decontaminate(Lookup):
    """Filters rows that overlap with a benchmark, notes with which, and quotes what they share.

    Instruction and context are looked up apart: the prompt of a chat, the document of a fact check. A text overlaps
    if it equals a benchmark's (words alone, without case), or has runs of at least `ngram` words in common with one
    that make up `coverage` of the shorter of the two, or one run of `long_run` words. A phrase such as the greeting
    of a letter is neither.

    Args:
        texts: parquet file (benchmark, text) of the benchmarks' instructions and contexts.
        config: what counts as shared. Runs of 13, as GPT-3 used on web pages (arXiv 2005.14165, appendix C), miss 4 of
            the 14 prompts that PandaLM shares with InFoBench; runs of 8 find all.
    """

    name = "decontaminate"
    reads = ("instruction", "context")
    adds = tuple(OVERLAPS)

    def __init__(self, texts: Place, config: DecontaminateConfig) -> None:
        self.texts, self.config = texts, config

    def depends(self) -> dict[str, Any]:
        return {"texts": storage.content_digest(self.texts), "config": self.config.identity()}

    def known(self) -> Index:
        return _index(storage.version(self.texts), self.config)

    def look_up(self, row: Row, known: Index) -> None:
        found = sorted({one for text in (row["instruction"], row["context"]) for one in known.overlaps(text or "")})
        row["overlaps"] = sorted({one.benchmark for one in found})
        if found:
            first = max((one for one in found if one.benchmark == found[0].benchmark), key=lambda one: len(one.run))
            row["status"] = filtered(f"contaminated:{first.benchmark}:{quoted(first.run)}")


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
        rows_of_batch = batch.to_pylist()
        added.apply_batch(rows_of_batch)
        hits.update(benchmark for row in rows_of_batch for benchmark in row["overlaps"])
    if hits:
        named = ", ".join(f"{benchmark} ({n} rows)" for benchmark, n in hits.most_common(3))
        raise UserError(
            f"training rows overlap with benchmarks that have changed or were added since: {named}",
            where=str(prepared),
            fix="leave them out of evaluation.benchmarks, or choose another out_dir",
        )
    return True


@dataclass(frozen=True)
class Index:
    """The runs of all texts of the benchmarks, boilerplate left out.

    Attributes:
        config: what counts as shared.
        benchmarks: of each text.
        lengths: words of each text, shape (texts,).
        whole: a key of all words of a text -> numbers of the texts.
        keys: of the runs, ascending, shape (runs,).
        texts: number of each run's text, shape (runs,).
        starts: place of each run's first word in its text, shape (runs,).
    """

    config: DecontaminateConfig
    benchmarks: list[str]
    lengths: np.ndarray
    whole: dict[int, list[int]]
    keys: np.ndarray
    texts: np.ndarray
    starts: np.ndarray

    def overlaps(self, text: str) -> Iterator[Overlap]:
        """Every benchmark text that a text overlaps with."""
        for found in self.matches(text):
            yield Overlap(self.benchmarks[found.number], found.run)

    def matches(self, text: str, common: frozenset[int] = frozenset()) -> Iterator[Match]:
        """Every benchmark text that a text overlaps with, and how; one that is equal comes as `exact` too.

        Args:
            text: any.
            common: keys of runs that say nothing, unless the benchmark's text is covered.
        """
        words = words_of(text)
        for number in self.whole.get(hash(tuple(words)), []) if words else []:
            yield Match(number, "exact", 1.0, " ".join(words))
        keys = run_keys(words, self.config.ngram) if common else None
        for shared in self.shared(words):
            found = self._match(words, shared)
            if found and keys is not None and self.covers(shared) < self.config.coverage:
                rare = np.array([key not in common for key in keys[shared.here].tolist()])
                if not rare.all():
                    found = self._match(words, self._only(shared, keys, rare)) or found._replace(kind="boilerplate")
            if found:
                yield found

    def shared(self, words: list[str]) -> Iterator[Shared]:
        """The runs that a text's words have in common with each benchmark text, be they an overlap or not."""
        # Each run is looked up once: a text that repeats one a thousand times has no million pairs with another such.
        own, which = np.unique(run_keys(words, self.config.ngram), return_inverse=True)
        first, last = np.searchsorted(self.keys, own, "left"), np.searchsorted(self.keys, own, "right")
        known = np.flatnonzero(last > first)
        if not len(known):
            return
        at = np.concatenate([np.arange(first[run], last[run]) for run in known])
        runs = np.repeat(known, (last - first)[known])
        order = np.argsort(self.texts[at], kind="stable")
        runs, at = runs[order], at[order]
        numbers, begins = np.unique(self.texts[at], return_index=True)
        for number, shared, found in zip(numbers, np.split(runs, begins[1:]), np.split(at, begins[1:]), strict=True):
            yield Shared(int(number), np.flatnonzero(np.isin(which, shared)), np.sort(self.starts[found]))

    def covers(self, shared: Shared) -> float:
        """The share of the benchmark text's words that are in the shared runs."""
        return _covered(shared.theirs, self.config.ngram) / int(self.lengths[shared.number])

    def _only(self, shared: Shared, keys: np.ndarray, rare: np.ndarray) -> Shared:
        """Some of the shared runs: those that begin in the text where `rare` is true."""
        here = shared.here[rare]
        low, high = np.searchsorted(self.keys, keys[here], "left"), np.searchsorted(self.keys, keys[here], "right")
        at = np.unique(np.concatenate([np.arange(*ends) for ends in zip(low, high, strict=True)] or [low]))
        return Shared(shared.number, here, np.sort(self.starts[at[self.texts[at] == shared.number]]))

    def _match(self, words: list[str], shared: Shared) -> Match | None:
        """The overlap that shared runs are, if they are one."""
        if not len(shared.here):
            return None
        ngram, length = self.config.ngram, int(self.lengths[shared.number])
        covered = _covered(shared.here if len(words) <= length else shared.theirs, ngram)
        start, size = _longest(shared.here, ngram)
        shorter = min(len(words), length)
        if size < self.config.long_run and covered < self.config.coverage * shorter:
            return None
        kind = "coverage" if covered >= self.config.coverage * shorter else "run"
        return Match(shared.number, kind, covered / shorter, " ".join(words[start : start + size]))


def _covered(starts: np.ndarray, ngram: int) -> int:
    """Words in the runs that begin at `starts`, which ascend."""
    return int(np.minimum(np.diff(starts), ngram).sum()) + ngram


def _longest(starts: np.ndarray, ngram: int) -> tuple[int, int]:
    """First word and length of the longest run: runs that begin at neighbouring words are one."""
    chains = np.split(starts, np.flatnonzero(np.diff(starts) > 1) + 1)
    longest = max(chains, key=len)
    return int(longest[0]), len(longest) - 1 + ngram


def run_keys(words: list[str], ngram: int) -> np.ndarray:
    """A key of each run of `ngram` words.

    Keys are Python's own hashes of 64 bits, quick to make and other ones in every process: they are never written.
    With ten million runs in the index and a billion looked up, one job in 2,000 meets a chance match.
    """
    runs = zip(*(words[i:] for i in range(ngram)), strict=False)
    return np.fromiter(map(hash, runs), np.int64, max(len(words) - ngram + 1, 0))


def quoted(run: str) -> str:
    """A run as a status shows it."""
    words = run.split()
    return " ".join(words[:QUOTED]) + (" ..." if len(words) > QUOTED else "")


def build_index(texts: Iterable[tuple[str, str]], config: DecontaminateConfig) -> Index:
    """The index of the benchmarks' (benchmark, text)."""
    every = sorted(set(texts))
    lengths = np.zeros(len(every), np.int64)
    whole: dict[int, list[int]] = {}
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for _, group in groupby(enumerate(every), key=lambda item: item[1][0]):
        runs = []
        for number, (_, text) in group:
            words = words_of(text)
            lengths[number] = len(words)
            whole.setdefault(hash(tuple(words)), []).append(number)
            runs.append((number, run_keys(words, config.ngram)))
        keys = np.concatenate([found for _, found in runs])
        numbers = np.concatenate([np.full(len(found), number, np.int32) for number, found in runs])
        starts = np.concatenate([np.arange(len(found), dtype=np.int32) for _, found in runs])
        # In how many texts each run is: one that a text repeats counts once.
        seen, counts = np.unique(np.concatenate([np.unique(found) for _, found in runs]), return_counts=True)
        rare = np.isin(keys, seen[counts <= BOILERPLATE])
        kept.append((keys[rare], numbers[rare], starts[rare]))
    joined = [np.concatenate(parts) for parts in zip(*kept, strict=True)] if kept else [np.zeros(0, np.int64)] * 3
    order = np.argsort(joined[0], kind="stable")
    benchmarks = [benchmark for benchmark, _ in every]
    return Index(config, benchmarks, lengths, whole, *(part[order] for part in joined))


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
def _index(texts: Version, config: DecontaminateConfig) -> Index:
    table = storage.read_table(texts.place)
    return build_index(zip(table["benchmark"].to_pylist(), table["text"].to_pylist(), strict=True), config)
