"""The file of judgments: complete, sorted, and honest about what was not judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import UserError
from pipelines.evaluation.asking.judgments import JUDGMENT, read_judgments
from pipelines.evaluation.report.unread import unread_lines

GOOD = {"q": "Which?", "a": "first", "b": "second", "label": "A"}
Rows = list[dict[str, Any]]


@pytest.fixture
def run(make_run: Callable, write_benchmark: Callable) -> Any:
    """Three pairs: one judged in both orders, one on which the engine fails when swapped, one unreadable."""
    path = write_benchmark([GOOD, {**GOOD, "q": "Long?"}, {**GOOD, "label": "C"}])

    def rule(row: dict[str, Any]) -> str | None:
        return None if row["instruction"] == "Long?" and row["order"] == "swapped" else "Result: A"

    return make_run({"base": rule}, [path])


def test_every_benchmark_row_has_its_line(run: Any) -> None:
    table = pq.read_table(run.judgments["base"])
    assert table.schema == JUDGMENT
    assert Counter(table["parse_status"].to_pylist()) == {"ok": 3, "failed": 1, "unasked": 1}
    keys = list(zip(*(table[name].to_pylist() for name in ("benchmark", "row_id", "order")), strict=True))
    assert keys == sorted(keys)


def test_the_file_does_not_depend_on_how_the_rows_were_spread(run: Any, tmp_path: Path) -> None:
    from pipelines.evaluation.asking.judgments import write_judgments

    whole = pq.read_table(run.judged["base"])
    other = tmp_path / "other"
    other.mkdir()
    for number in range(whole.num_rows):
        pq.write_table(whole.slice(whole.num_rows - 1 - number, 1), other / f"{number}.parquet")
    again = write_judgments(other, run.examples, tmp_path / "again.parquet")
    assert again.read_bytes() == run.judgments["base"].read_bytes()


def test_judged_rows_and_examples_read_the_same_as_the_file(run: Any) -> None:
    from_file = read_judgments(run.judgments["base"])
    from_parts = read_judgments(run.judged["base"], run.examples)
    both = read_judgments(run.judgments["base"], run.examples)
    for other in (from_parts, both):
        assert from_file.drop(columns="parse_status").equals(other.drop(columns="parse_status"))
    assert Counter(from_file["outcome"]) == {"ok": 3, "failed": 1, "unasked": 1}


def test_a_verdict_whose_label_was_put_there_counts_as_read(run: Any, tmp_path: Path) -> None:
    table = pq.read_table(run.judgments["base"])
    place = table.schema.get_field_index("parse_status")
    changed = pc.replace_substring_regex(table["parse_status"], "^ok$", "completed")
    path = tmp_path / "completed.parquet"
    pq.write_table(table.set_column(place, table.schema.field(place), changed), path)
    assert Counter(read_judgments(path)["outcome"]) == {"ok": 3, "failed": 1, "unasked": 1}
    assert unread_lines({"base": path}) == []


def test_missing_judgments_are_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no judgments"):
        read_judgments(tmp_path / "none.parquet")
    with pytest.raises(UserError, match="no parquet files"):
        read_judgments(tmp_path)
