"""Flaws planted in the training files, so that cleaning has something to remove (field `planted`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pipelines.core.determinism import integer
from pipelines.core.records import Row
from pipelines.data.sample import scripts
from pipelines.data.sample.families import SEED, shuffled

TEXT_FIELD = {"pairwise": "response_b", "absolute": "response", "classification": "response"}
SCRIPTS = {
    "pairwise": ("cyrillic", "chinese"),
    "absolute": ("arabic", "hindi", "chinese"),
    "classification": ("hindi", "cyrillic", "arabic"),
}
FOREIGN_LABEL = {"pairwise": "C", "absolute": 9, "classification": "Maybe"}
FRESH = {"pairwise": 8, "absolute": 6, "classification": 6}
"""Fresh rows that `single_flaws` spends per task type."""


def single_flaws(task: str, fresh: Sequence[Row]) -> Iterator[Row]:
    """Rows with one flaw each: null, empty text, split, year, label, absent field, equal responses."""
    field = TEXT_FIELD[task]
    rows = iter(fresh)
    yield next(rows) | {field: None, "planted": "null"}
    yield next(rows) | {field: "", "planted": "empty"}
    yield next(rows) | {"split": "test", "planted": "test_split"}
    yield next(rows) | {"published": 2021, "planted": "year"}
    yield next(rows) | {"label": FOREIGN_LABEL[task], "planted": "label"}
    missing = next(rows) | {"planted": "missing_field"}
    del missing[field]
    yield missing
    if task == "pairwise":
        for row in (next(rows), next(rows)):
            yield row | {"response_b": row["response_a"], "planted": "equal_responses"}


def other_scripts(task: str, example: Row) -> Iterator[Row]:
    """Whole rows in a script that cleaning turns away; the last of three has only its response in it."""
    for place, script in enumerate(SCRIPTS[task]):
        instruction, good, bad = scripts.OTHER_SCRIPTS[script]
        if place == 2:
            instruction = "Name the capital of France."
        text: Row = {"instruction": instruction, "family": script, "planted": "script"}
        if task == "pairwise":
            text |= {"response_a": good, "response_b": bad, "label": "A"}
        else:
            text |= {"response": good}
        yield example | text


def with_duplicates(rows: list[Row], count: int = 2) -> list[Row]:
    """The rows with exact copies of `count` clean ones, each somewhere after its original."""
    out = list(rows)
    clean = [row for row in rows if row["planted"] is None]
    for row in shuffled(clean, "duplicates")[:count]:
        first = out.index(row)
        place = first + 1 + integer(SEED, "place", str(row)) % (len(out) - first)
        out.insert(place, row | {"planted": "duplicate"})
    return out


def plant(task: str, clean: list[Row], fresh: Sequence[Row], shape: Callable[[Row], Row]) -> list[Row]:
    """Clean rows with the flaws of a task type between them; `shape` puts a row's fields in order."""
    flawed = [*single_flaws(task, fresh), *other_scripts(task, fresh[0])]
    rows = shuffled([*clean, *flawed], f"{task} train")
    return [shape(row) for row in with_duplicates(rows)]
