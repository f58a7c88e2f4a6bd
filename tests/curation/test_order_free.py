"""Contrast and mixture give a row the same result whatever batch, block or worker it comes in."""

from __future__ import annotations

import copy
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.records import PAIR, Row
from pipelines.core.stage import RowTask, Stage, to_table
from pipelines.curation.contrast import Contrast
from tests.curation.test_mix import pair_stage

ALLOWED = {"pairwise": ["A", "B", "Tie"], "absolute": ["1", "2", "3", "4", "5"], "classification": ["Yes", "No"]}


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    rows = []
    for i in range(draw(st.integers(1, 30))):
        task = draw(st.sampled_from(sorted(ALLOWED)))
        verdict = draw(st.sampled_from(ALLOWED[task]))
        made: dict[str, Any] = dict.fromkeys(PAIR.names)
        made |= {"row_id": f"row-{i}", "source": "s", "task": task, "verdict": verdict, "allowed": ALLOWED[task]}
        made |= {"instruction": f"Do {i}.", "responses": ["one", "two"][: 2 if task == "pairwise" else 1]}
        made |= {"rubric": "Is it good?", "chosen_critique": "Good.", "rejected_critique": "Bad.", "status": "ok"}
        rows.append(made)
    return rows


def run(rows: list[Row], order: list[int], size: int, workers: int) -> dict[str, Row]:
    """Contrast, then the mixture, in batches of `size`, dealt to `workers` that each have stages of their own."""
    stages: list[list[Stage]] = [[Contrast(7), pair_stage()] for _ in range(workers)]
    found: dict[str, Row] = {}
    for number, start in enumerate(range(0, len(order), size)):
        batch = to_table([copy.deepcopy(rows[i]) for i in order[start : start + size]], PAIR)
        batch = RowTask(stages[number % workers], PAIR)(batch)
        found |= {row["row_id"]: row for row in batch.to_pylist()}
    return found


@settings(max_examples=40, deadline=None)
@given(tables(), st.randoms(use_true_random=False), st.integers(1, 12), st.integers(1, 5))
def test_any_order_batch_and_number_of_workers(rows: list[Row], rng: random.Random, size: int, workers: int) -> None:
    plain = run(rows, list(range(len(rows))), len(rows), 1)
    order = list(range(len(rows)))
    rng.shuffle(order)
    assert run(rows, order, size, workers) == plain
    assert len(plain) == len(rows)
