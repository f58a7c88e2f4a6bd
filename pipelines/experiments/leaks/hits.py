"""A hit: a text of a training set that is a benchmark's; and the stages that look for hits by their words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.core import storage
from pipelines.core.determinism import digest
from pipelines.core.records import TEXT, Row
from pipelines.core.stage import Filter, Lookup
from pipelines.core.storage import Place, Version
from pipelines.curation.config import DecontaminateConfig
from pipelines.curation.decontaminate import Index, Match, build_index, quoted
from pipelines.curation.near_duplicates import shingles
from pipelines.curation.words import words_of
from pipelines.experiments.leaks.config import NearConfig
from pipelines.experiments.leaks.short import ShortTexts, short_texts

HIT = pa.struct(
    [
        ("benchmark", TEXT),
        ("kind", TEXT),  # as in `leaks.keep_out`
        ("score", pa.float64()),  # share of the shorter text in shared runs, Jaccard similarity, or cosine
        ("shared", TEXT),  # the longest run of words in common, where there is one
        ("text_id", TEXT),  # of the benchmark's text, whole
        ("theirs", TEXT),  # the benchmark's text
        ("ours", TEXT),  # the set's text
    ]
)
HITS = pa.list_(HIT)
SHOWN = 600  # characters of a text that a hit keeps
# Bands of MinHash slots: texts of similarity 0.4 share one with a chance of 1 - (1 - 0.4^2)^32 = 0.996.
BANDS, WIDTH = 32, 2


def hit(benchmark: str, kind: str, score: float, theirs: str, ours: str, shared: str = "") -> dict[str, Any]:
    """A hit as its column has it."""
    quote = quoted(shared) or None
    return {
        "benchmark": benchmark,
        "kind": kind,
        "score": min(float(score), 1.0),  # a cosine is rounded
        "shared": quote,
        "text_id": digest(benchmark, theirs, size=8),
        "theirs": theirs[:SHOWN],
        "ours": beside(ours, shared)[:SHOWN],
    }


def beside(text: str, shared: str) -> str:
    """A long text from shortly before what it shares, as far as that can be found by its first words."""
    if len(text) <= SHOWN or not shared:
        return text
    found = text.casefold().find(" ".join(shared.split()[:3]))
    return text if found < SHOWN // 2 else "… " + text[found - SHOWN // 4 :]


class Known(NamedTuple):
    """The benchmarks' texts, by the numbers that their index gives them."""

    words: Index
    short: ShortTexts
    texts: list[tuple[str, str]]
    """(benchmark, text)."""


class Overlaps(Lookup):
    """Adds what decontamination finds: equal texts, long runs of words, and shorter ones that cover much of a text.

    And what it does not look for: whole texts too short for a run, inside a longer one.

    Args:
        texts: parquet file (benchmark, text).
        config: what counts as shared.
        common: parquet file of `boilerplate.find`; None knows of no boilerplate of the set.
    """

    name = "overlaps"
    reads = ("texts",)
    adds = (pa.field("overlaps", HITS),)

    def __init__(self, texts: Place, config: DecontaminateConfig, common: Place | None = None) -> None:
        self.texts, self.config, self.common = texts, config, common

    def depends(self) -> dict[str, Any]:
        common = storage.content_digest(self.common) if self.common else None
        return {"texts": storage.content_digest(self.texts), "config": self.config.identity(), "common": common}

    def known(self) -> tuple[Known, frozenset[int]]:
        common = keys_of(storage.version(self.common)) if self.common else frozenset[int]()
        return known_texts(storage.version(self.texts), self.config), common

    def look_up(self, row: Row, known: tuple[Known, frozenset[int]]) -> None:
        (index, short, theirs), common = known
        best: dict[int, tuple[Match, str]] = {}
        for text in row["texts"]:
            whole = (Match(number, "run", 1.0, run) for number, run in short.within(words_of(text)))
            for match in chain(index.matches(text, common), whole):
                if match.number not in best or says(match) > says(best[match.number][0]):
                    best[match.number] = match, text
        row["overlaps"] = [
            hit(theirs[number][0], match.kind, match.share, theirs[number][1], text, match.run)
            for number, (match, text) in best.items()
        ]


def says(match: Match) -> tuple[bool, bool, float]:
    """How much a match says: one text of a row may be a benchmark's, and another a part of the same."""
    return match.kind != "boilerplate", match.kind == "exact", match.share


@dataclass(frozen=True)
class Sketches:
    """MinHash bands of the benchmarks' texts.

    Attributes:
        texts: (benchmark, text).
        buckets: band and its value -> numbers of texts.
    """

    texts: list[tuple[str, str]]
    buckets: dict[tuple[int, int], list[int]]

    def near(self, text: str, bands: np.ndarray, config: NearConfig) -> Iterator[tuple[int, float]]:
        """Number and similarity of the texts that are at least as similar as the threshold."""
        proposed = {one for band, key in enumerate(bands.tolist()) for one in self.buckets.get((band, key), ())}
        mine = shingles(text, config.ngram) if proposed else frozenset()
        for number in sorted(proposed):
            theirs = shingles(self.texts[number][1], config.ngram)
            if (alike := len(mine & theirs) / len(mine | theirs)) >= config.threshold:
                yield number, alike


class Near(Lookup):
    """Adds the near duplicates of benchmarks' texts: a word changed here and there leaves no long run.

    Args:
        texts: parquet file (benchmark, text).
        config: what counts as near.
    """

    name = "near_duplicates"
    reads = ("texts",)
    adds = (pa.field("near", HITS),)

    def __init__(self, texts: Place, config: NearConfig) -> None:
        self.texts, self.config = texts, config

    def depends(self) -> dict[str, Any]:
        return {"texts": storage.content_digest(self.texts), "config": self.config.identity()}

    def known(self) -> Sketches:
        return _sketches(storage.version(self.texts), self.config)

    def look_up(self, row: Row, known: Sketches) -> None:
        texts = [text for text in row["texts"] if len(words_of(text)) >= self.config.least_words]
        best: dict[int, dict[str, Any]] = {}
        for text, signed in zip(texts, bands(texts, self.config.ngram), strict=True):
            for number, alike in known.near(text, signed, self.config):
                if number not in best or best[number]["score"] < alike:
                    benchmark, other = known.texts[number]
                    best[number] = hit(benchmark, "near_duplicate", alike, other, text)
        row["near"] = list(best.values())


class KeepOut(Filter):
    """Filters the rows with a hit of one of these kinds, whatever else they have.

    Args:
        kinds: of hits.
        columns: that hold hits.
    """

    name = "keep_out"

    def __init__(self, kinds: Sequence[str], columns: Sequence[str]) -> None:
        self.kinds, self.reads = list(kinds), tuple(columns)

    def depends(self) -> dict[str, Any]:
        return {"kinds": sorted(self.kinds)}

    def reason(self, row: Row) -> str | None:
        found = [one for name in self.reads for one in row[name] or [] if one["kind"] in self.kinds]
        return f"leak:{found[0]['benchmark']}:{found[0]['kind']}" if found else None


def bands(texts: Sequence[str], ngram: int) -> np.ndarray:
    """One number for each band of each text, equal for texts that agree in it; (texts, BANDS)."""
    from rensa import RMinHash  # type: ignore[import-untyped]

    sets = [sorted(shingles(text, ngram)) for text in texts]
    slots = np.array(RMinHash.digests_from_token_sets(sets, num_perm=BANDS * WIDTH, seed=0), np.uint64)
    pairs = slots.reshape(-1, BANDS, WIDTH)
    return pairs[:, :, 0] * np.uint64(0x9E3779B97F4A7C15) + pairs[:, :, 1]  # overflows, as a hash may


def read_texts(texts: Place) -> list[tuple[str, str]]:
    """(benchmark, text) in the order of the index."""
    table = storage.read_table(texts)
    return sorted(set(zip(table["benchmark"].to_pylist(), table["text"].to_pylist(), strict=True)))


@cache
def known_texts(texts: Version, config: DecontaminateConfig) -> Known:
    """The benchmarks' texts, and what finds them, once a process."""
    known = read_texts(texts.place)
    return Known(build_index(known, config), short_texts([text for _, text in known], config.ngram), known)


@cache
def keys_of(runs: Version) -> frozenset[int]:
    """Runs of words, by the keys that the index has for them in this process."""
    return frozenset(hash(tuple(run.split(" "))) for run in storage.read_table(runs.place)["run"].to_pylist())


@cache
def _sketches(texts: Version, config: NearConfig) -> Sketches:
    known = [pair for pair in read_texts(texts.place) if len(words_of(pair[1])) >= config.least_words]
    buckets: dict[tuple[int, int], list[int]] = {}
    for number, signed in enumerate(bands([text for _, text in known], config.ngram)):
        for band, key in enumerate(signed.tolist()):
            buckets.setdefault((band, key), []).append(number)
    return Sketches(known, buckets)
