"""Contradicting labels of one content: what counts as one, who is outvoted, and what each policy filters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.core.records import EXAMPLE
from pipelines.core.stage import apply_stages, to_table
from pipelines.curation.conflicts import conflict_filter, find_conflicts

PAIR = {"task": "pairwise", "instruction": "Greet.", "responses": ["Hi.", "Go."], "allowed": ["A", "B", "Tie"]}
SCORE = {"task": "absolute", "instruction": "Greet.", "responses": ["Hi."], "allowed": ["1", "3", "5"]}


def conflicts(folder: Path, rows: list[dict[str, Any]], policy: str) -> tuple[dict[str, int], list[str]]:
    """Rows per source, and the status of each row."""
    made = [{"raw_id": str(at), "source": "s", "status": "ok", **row} for at, row in enumerate(rows)]
    (folder / "rows").mkdir(exist_ok=True)
    pq.write_table(to_table(made, EXAMPLE), folder / "rows" / "0.parquet")
    counts = find_conflicts(folder / "rows", folder / "conflicts.parquet")
    apply_stages(conflict_filter(folder / "conflicts.parquet", policy), made)
    return counts, [row["status"].removeprefix("filtered:") for row in made]


@pytest.mark.parametrize(
    ("policy", "left"),
    [("keep", []), ("drop", [0, 1, 2]), ("majority", [2])],
)
def test_each_policy_filters_what_it_says(tmp_path: Path, policy: str, left: list[int]) -> None:
    rows = [{**SCORE, "verdict": verdict} for verdict in ("5", "5", "1")] + [
        {**SCORE, "instruction": "x", "verdict": "3"}
    ]
    counts, statuses = conflicts(tmp_path, rows, policy)
    assert counts == {"s": 3}
    assert statuses == ["conflicting_label" if at in left else "ok" for at in range(4)]


def test_where_no_label_is_the_commonest_all_leave(tmp_path: Path) -> None:
    rows = [{**SCORE, "verdict": verdict} for verdict in ("5", "1", "3", "5", "1")]
    assert set(conflicts(tmp_path, rows, "majority")[1]) == {"conflicting_label"}


def test_a_swapped_pair_with_a_swapped_label_agrees_and_with_the_same_label_contradicts(tmp_path: Path) -> None:
    turned = {**PAIR, "responses": PAIR["responses"][::-1]}
    assert conflicts(tmp_path, [{**PAIR, "verdict": "A"}, {**turned, "verdict": "B"}], "drop")[0] == {}
    assert conflicts(tmp_path, [{**PAIR, "verdict": "A"}, {**turned, "verdict": "A"}], "drop")[0] == {"s": 2}
    assert conflicts(tmp_path, [{**PAIR, "verdict": "Tie"}, {**turned, "verdict": "Tie"}], "drop")[0] == {}


@pytest.mark.parametrize("change", [{"context": "c"}, {"rubric": "r"}, {"reference": "f"}, {"allowed": ["1", "5"]}])
def test_another_question_is_no_contradiction(tmp_path: Path, change: dict[str, Any]) -> None:
    assert conflicts(tmp_path, [{**SCORE, "verdict": "5"}, {**SCORE, "verdict": "1", **change}], "drop")[0] == {}


def test_rows_of_several_sources_vote_together_and_rows_that_failed_do_not(tmp_path: Path) -> None:
    rows = [
        {**SCORE, "verdict": "5"},
        {**SCORE, "verdict": "5", "source": "t"},
        {**SCORE, "verdict": "1", "context": ""},
    ]
    failed = [{**SCORE, "verdict": "1", "status": "error:x"}] * 3
    counts, statuses = conflicts(tmp_path, [*rows, *failed], "majority")
    assert counts == {"s": 2, "t": 1}
    assert statuses == ["ok", "ok", "conflicting_label", "error:x", "error:x", "error:x"]
