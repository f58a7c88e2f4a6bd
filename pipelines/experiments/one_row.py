"""One row's life, from a finished run: a record, its critiques, its pair, and the trained judge at work."""

from __future__ import annotations

import textwrap
from typing import Any

import pyarrow.compute as pc

from pipelines.core import storage
from pipelines.core.determinism import unit
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.judging.tasks import PAIRWISE

WIDTH, LONGEST = 100, 280  # columns of the text, characters of one value
PAIR = ("row_id", "source", "task", "instruction", "responses", "verdict", "rejected_verdict")
CRITIQUES = ("chosen_critique", "rejected_critique", "prompt", "chosen", "rejected")
JUDGMENT = ("judgment_id", "task", "instruction", "responses", "gold", "raw", "predicted", "parse_status")


def one_row(run: Run) -> str:
    """A few lines to read: one curated pair with a critique, chosen by hash, and one judgment of the same task.

    A comparison of two responses where there is one.

    Empty where the run has no such pair; without the judgment where no judge has been benchmarked.
    """
    cot = pc.field("format") == "cot"
    wanted = (cot & (pc.field("task") == PAIRWISE.name), cot)
    drawn = (_drawn(run.pairs, (*PAIR, *CRITIQUES), keep, "row_id", run.seed) for keep in wanted)
    pair = next((found for found in drawn if found), None)
    if pair is None:
        return ""
    lines = [f"one row's life (row {pair['row_id'][:8]} of {pair['source']}, {pair['task']})"]
    lines += _entry("record", [*_example(pair), ("label", pair["verdict"])])
    lines += _entry(
        "critiques",
        [
            (f"chosen, argues for {pair['verdict']}", pair["chosen_critique"]),
            (f"rejected, argues for {pair['rejected_verdict']}", pair["rejected_critique"]),
        ],
    )
    lines += _entry("pair", [(name, pair[name]) for name in ("prompt", "chosen", "rejected")])
    of_task = pc.field("task") == pair["task"]
    judges = storage.files(run.judgments, ".parquet")
    trained = next((place for place in judges if place.stem == "trained"), None)
    judged = _drawn(trained, JUDGMENT, of_task, "judgment_id", run.seed) if trained else None
    if judged is not None:
        said = judged["predicted"] or f"none ({judged['parse_status']})"
        verdict = [*_example(judged), ("answer", judged["raw"] or ""), ("verdict", said), ("gold", judged["gold"])]
        lines += _entry("held out", verdict)
    return "\n".join(lines)


def _drawn(place: Place, columns: tuple[str, ...], keep: pc.Expression, key: str, seed: int) -> dict[str, Any] | None:
    """The row of smallest hash among those that `keep` selects (memory: the ids and one row)."""
    if not storage.exists(place):
        return None
    ids = (name for batch in storage.read_batches(place, [key], keep) for name in batch[key].to_pylist())
    first = min(ids, key=lambda name: unit(seed, "one_row", name), default=None)
    if first is None:
        return None
    row: dict[str, Any] = storage.read_table(place, columns, pc.field(key) == first).to_pylist()[0]
    return row


def _example(row: dict[str, Any]) -> list[tuple[str, str]]:
    names = ("response A", "response B") if len(row["responses"]) > 1 else ("response",)
    return [("instruction", row["instruction"]), *zip(names, row["responses"], strict=True)]


def _entry(title: str, values: list[tuple[str, str]]) -> list[str]:
    """Lines of one part: the title once, each value on one line or a few, cut in the middle where it is long."""
    lines = []
    for number, (name, value) in enumerate(values):
        text = " ".join(value.split())
        if len(text) > LONGEST:
            text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
        head = f"  {title if number == 0 else '':10} {name}: "
        lines += textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * 13) or [head.rstrip()]
    return lines
