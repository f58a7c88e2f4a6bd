"""Caps: the smallest hashes of the rows that would otherwise be paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.determinism import unit
from pipelines.core.records import EXAMPLE, SCORED
from pipelines.core.stage import apply_stages
from pipelines.curation.cap import SourceCap

SCHEMA = pa.schema([*EXAMPLE, *SCORED])


def example(n: int) -> dict[str, Any]:
    """Forty rows of `a`, of which every second scores low and one has no score, and ten of `b`."""
    row = {"row_id": str(n), "source": "a" if n < 40 else "b", "status": "ok", "task": "pairwise", "verdict": "A"}
    return row | {"allowed": ["A", "B"], "rewards": [float(n % 2), 0.0] if n != 39 else None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [*map(example, range(50)), example(50) | {"source": "a", "status": "filtered:year"}]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "rows.parquet")
    return tmp_path


def kept(stages: list[Any], folder: Path) -> list[int]:
    for stage in stages:
        stage.open(folder)
    rows = list(map(example, range(50)))
    apply_stages(stages, rows)
    return [int(row["row_id"]) for row in rows if row["status"] == "ok"]


def smallest(numbers: range, cap: int) -> list[int]:
    return sorted(sorted(numbers, key=lambda n: unit(1, "cap", str(n)))[:cap])


def test_a_cap_keeps_exactly_the_smallest_hashes(folder: Path) -> None:
    assert kept([SourceCap({"a": 10}, seed=1)], folder) == [*smallest(range(40), 10), *range(40, 50)]


def test_only_rows_that_reach_the_segment_count(folder: Path) -> None:
    rows = [example(n) | {"status": "filtered:reward_below_threshold" if n < 20 else "ok"} for n in range(50)]
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / "rows.parquet")
    found = [n for n in kept([SourceCap({"a": 10}, 1)], folder) if n >= 20]
    assert found == [*smallest(range(20, 40), 10), *range(40, 50)]


def test_a_cap_larger_than_the_source_keeps_all(folder: Path) -> None:
    assert kept([SourceCap({"b": 99, "missing": 5, "a": 0}, seed=1)], folder) == list(range(40, 50))


def test_without_caps_no_row_is_read(tmp_path: Path) -> None:
    stage = SourceCap({}, seed=1)
    stage.open(tmp_path / "none")
    assert stage.reason({"source": "a", "row_id": "1"}) is None
