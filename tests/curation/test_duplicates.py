"""Exact duplicates: all but the first, in the order of the sources and of their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.core.records import EXAMPLE
from pipelines.core.stage import to_table
from pipelines.curation.duplicates import find_duplicates


def write(folder: Path, files: list[list[tuple[str, int, str, str]]]) -> Path:
    """Parquet files of (source, position, content, status) rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.parquet"):
        old.unlink()
    for number, rows in enumerate(files):
        made = [
            {"raw_id": f"{source}:0000.{at:09d}", "source": source, "content_hash": content, "status": status}
            for source, at, content, status in rows
        ]
        pq.write_table(to_table(made, EXAMPLE), folder / f"{number}.parquet")
    return folder


def found(rows: Path, out: Path, sources: list[str] | None = None) -> dict[str, int]:
    table = pq.read_table(find_duplicates(rows, out, sources)).to_pylist()
    return {row["raw_id"]: row["rank"] for row in table}


def test_all_but_the_first_are_listed_with_their_rank(tmp_path: Path) -> None:
    rows = write(
        tmp_path / "rows",
        [
            [("b", 0, "x", "ok"), ("b", 1, "y", "ok")],
            [("a", 7, "x", "ok"), ("a", 10, "x", "ok"), ("a", 9, "z", "ok")],
        ],
    )
    assert found(rows, tmp_path / "d.parquet", ["b", "a"]) == {"a:0000.000000007": 1, "a:0000.000000010": 2}
    assert found(rows, tmp_path / "d.parquet", ["a", "b"]) == {"a:0000.000000010": 1, "b:0000.000000000": 2}


def test_the_order_of_sources_comes_from_ingest(tmp_path: Path) -> None:
    rows = write(tmp_path / "ingest" / "rows", [[("b", 0, "x", "ok"), ("a", 0, "x", "ok")]])
    assert found(rows, tmp_path / "d.parquet") == {"b:0000.000000000": 1}  # by name, for want of better
    (tmp_path / "ingest" / "done.json").write_text(json.dumps({"sources": {"b": {}, "a": {}}}))
    assert found(rows, tmp_path / "d.parquet") == {"a:0000.000000000": 1}


def test_rows_that_are_not_ok_are_no_duplicates_and_have_none(tmp_path: Path) -> None:
    files = [[("a", 0, "x", "error:e"), ("a", 1, "x", "ok"), ("a", 2, "x", "filtered:f")]]
    rows = write(tmp_path / "rows", files)
    assert found(rows, tmp_path / "d.parquet", ["a"]) == {}


def test_nothing_found_is_still_a_file_with_columns(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows", [[]])
    table = pq.read_table(find_duplicates(rows, tmp_path / "new" / "d.parquet", []))
    assert (table.num_rows, table.column_names) == (0, ["raw_id", "rank"])
    assert list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "d.parquet"]  # no drafts, no spill


@pytest.mark.parametrize("name", ["it's", "a b", "x*y", "[1]"])
def test_odd_folder_names_are_only_names(tmp_path: Path, name: str) -> None:
    rows = write(tmp_path / name / "rows", [[("a", 0, "x", "ok"), ("a", 1, "x", "ok")]])
    assert found(rows, tmp_path / name / "d.parquet", ["a"]) == {"a:0000.000000001": 1}


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from(["ok", "ok", "error:e"]))),
    st.permutations("abc"),
    st.integers(1, 4),
)
def test_as_a_plain_loop_would_find_them(
    tmp_path: Path, drawn: list[tuple[str, str, str]], order: list[str], size: int
) -> None:
    listed = [(source, at, content, status) for at, (source, content, status) in enumerate(drawn)]
    rows = write(tmp_path / "rows", [listed[at : at + size] for at in range(0, len(listed), size)] or [[]])
    seen: dict[str, int] = {}
    expected: dict[str, Any] = {}
    for source, at, content, status in sorted(listed, key=lambda row: (order.index(row[0]), row[1])):
        if status == "ok":
            if content in seen:
                expected[f"{source}:0000.{at:09d}"] = seen[content]
            seen[content] = seen.get(content, 0) + 1
    assert found(rows, tmp_path / "d.parquet", list(order)) == expected
