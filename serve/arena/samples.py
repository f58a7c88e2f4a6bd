"""Prompts and responses that a visitor may have judged, from sources as curation reads them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence

from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.records import OK, Row
from pipelines.core.storage import Place
from pipelines.curation.registry import SOURCES
from pipelines.datasets.readers import read_raw
from pipelines.datasets.spec import adapt
from pipelines.judging.tasks import ABSOLUTE
from serve.arena.store.battles import Texts


def load_samples(sources: Sequence[str], data_root: Place | None, most: int, seed: int) -> list[Texts]:
    """Samples of some sources, as many as `most`, chosen by hash and in that order.

    Raises:
        UserError: a source is not known or cannot be read, or gives no sample.
    """
    found = heapq.nsmallest(most, _samples(sources, data_root), key=lambda one: digest(seed, "sample", one.sample))
    if sources and not found:
        raise UserError("no row has an instruction and a response", where="samples")
    return found


def _samples(sources: Sequence[str], data_root: Place | None) -> Iterator[Texts]:
    seen: set[str | None] = set()  # equal rows have equal ids
    for name in sources:
        spec = SOURCES.load(name)
        for raw in read_raw(spec, data_root):
            for row in adapt(spec, raw):
                for one in _of_row(row):
                    if one.sample not in seen:
                        seen.add(one.sample)
                        yield one


def _of_row(row: Row) -> Iterator[Texts]:
    if row["status"] != OK:
        return
    # The rubric of another task asks for something else than a score.
    rubric = (row["rubric"] or "") if row["task"] == ABSOLUTE.name else ""
    for number, response in enumerate(row["responses"]):
        if row["instruction"] and response:
            name = f"{row['source']}/{row['row_id']}/{number}"
            yield Texts(row["instruction"], response, rubric, row["context"] or "", name)
