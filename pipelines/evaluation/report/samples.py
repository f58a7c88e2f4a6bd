"""Judgments to read: a few right, wrong and unread ones, drawn by hash."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow.compute as pc

from pipelines.core import storage
from pipelines.core.determinism import unit
from pipelines.core.storage import Place
from pipelines.evaluation.asking.judgments import JUDGMENT, SKIPPED, read_judgments

SHOWN = 3  # judgments of each kind
MOST_CHARACTERS = 2500  # of one text
KINDS = ("right", "wrong", "unparsed")
_TEXTS = ("instruction", "context", "responses", "rubric", "reference", "raw")
Sample = dict[str, Any]


def samples(judgments: dict[str, Place], seed: int) -> list[Sample]:
    """Judgments to read, three of each kind: by hash, the benchmarks in turn, the last model first.

    Returns:
        Rows of the schema JUDGMENT, each with `model` and `kind`, one of KINDS.
    """
    wanted: dict[str, list[Sample]] = {kind: [] for kind in KINDS}
    for model, place in reversed(judgments.items()):
        frame = read_judgments(place)
        frame = frame[frame["outcome"] != SKIPPED].assign(kind=lambda lines: _kinds(lines))
        for kind in KINDS:
            missing = SHOWN - len(wanted[kind])
            ids = _spread(frame[frame["kind"] == kind], seed)[:missing]
            wanted[kind] += [{"model": model, "kind": kind, **row} for row in _rows(place, ids)]
    return [sample for kind in KINDS for sample in wanted[kind]]


def _kinds(lines: pd.DataFrame) -> list[str]:
    kinds = []
    for outcome, predicted, gold, allowed in zip(
        lines["outcome"], lines["predicted"], lines["gold"], lines["allowed"], strict=True
    ):
        if outcome != "ok":
            kinds.append("unparsed")
        elif gold in allowed:
            kinds.append("right" if predicted == gold else "wrong")
        else:  # a mean of several raters: right within half a point
            kinds.append("right" if abs(float(predicted) - float(gold)) <= 0.5 else "wrong")
    return kinds


def _spread(lines: pd.DataFrame, seed: int) -> list[str]:
    """Judgment ids, the benchmarks taking turns, each in the order of a hash."""
    ranked = lines.assign(draw=[unit(seed, "report_example", key) for key in lines["judgment_id"]])
    ranked = ranked.sort_values("draw")
    ranked = ranked.assign(turn=ranked.groupby("benchmark").cumcount()).sort_values(["turn", "draw"])
    return [str(key) for key in ranked["judgment_id"]]


def _rows(place: Place, ids: list[str]) -> list[Sample]:
    """The full rows of a few judgments, in the order asked, long texts cut."""
    keep = pc.field("judgment_id").isin(ids)
    rows = storage.read_table(place, keep=keep, schema=JUDGMENT).to_pylist() if ids else []
    found = {row["judgment_id"]: row for row in rows}
    for row in rows:
        for name in _TEXTS:
            value = row[name]
            row[name] = [_cut(text) for text in value] if isinstance(value, list) else _cut(value)
    return [found[key] for key in ids]


def _cut(text: str | None) -> str:
    text = text or ""
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} … ({len(text):,} characters)"
