"""Exact duplicates: all but the first, in the order of the sources and of their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.core import step
from pipelines.core.records import EXAMPLE, Row
from pipelines.core.segment import Rows
from pipelines.core.stage import apply_stages, to_table
from pipelines.curation.duplicates import Duplicates, MarkDuplicates, find_duplicates
from pipelines.curation.duplicates import listed as digest_list


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


def found(rows: Path, out: Path, sources: list[str]) -> dict[str, int]:
    count = find_duplicates(rows, out, sources)
    table = pq.read_table(out).to_pylist()
    assert len(table) == count
    return {row["raw_id"]: row["rank"] for row in table}


def listed(folder: Path, ranks: dict[str, int]) -> Path:
    path = folder / "duplicates.parquet"
    columns = {"raw_id": pa.array(list(ranks), pa.string()), "rank": pa.array(list(ranks.values()), pa.int32())}
    pq.write_table(pa.table(columns), path)
    return path


def test_what_follows_depends_on_what_is_listed_and_not_on_how(tmp_path: Path) -> None:
    def digest_of(name: str, *orders: list[str]) -> set[str]:
        for number, order in enumerate(orders):
            found(write(tmp_path / "rows", [FILES[name]]), tmp_path / f"{number}.parquet", order)
        return {digest_list(tmp_path / f"{number}.parquet", "rank") for number in range(len(orders))}

    assert len(digest_of("apart", ["a", "b"], ["b", "a"])) == 1
    assert len(digest_of("shared", ["a", "b"], ["b", "a"])) == 2


FILES = {
    "apart": [("a", 0, "x", "ok"), ("a", 1, "x", "ok"), ("b", 0, "y", "ok")],
    "shared": [("a", 0, "x", "ok"), ("b", 0, "x", "ok")],
}


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


def test_sources_that_are_not_named_come_last_by_name(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows", [[("b", 0, "x", "ok"), ("a", 0, "x", "ok"), ("c", 0, "x", "ok")]])
    assert found(rows, tmp_path / "d.parquet", ["c"]) == {"a:0000.000000000": 1, "b:0000.000000000": 2}


def test_the_order_of_the_sources_decides_which_row_stays_so_it_is_part_of_what_the_step_depends_on() -> None:
    before = Rows(Path("rows"), "before")
    first, second = (step.fingerprint(Duplicates(order).depends(before)) for order in (["a", "b"], ["b", "a"]))
    assert first != second


def test_rows_that_are_not_ok_are_no_duplicates_and_have_none(tmp_path: Path) -> None:
    files = [[("a", 0, "x", "error:e"), ("a", 1, "x", "ok"), ("a", 2, "x", "filtered:f")]]
    rows = write(tmp_path / "rows", files)
    assert found(rows, tmp_path / "d.parquet", ["a"]) == {}


def test_nothing_found_is_still_a_file_with_columns(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows", [[]])
    assert find_duplicates(rows, tmp_path / "new" / "d.parquet", []) == 0
    table = pq.read_table(tmp_path / "new" / "d.parquet")
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


def example(raw_id: str) -> Row:
    return {"raw_id": raw_id, "row_id": "abc", "status": "ok"}


def test_marked_duplicates_leave_with_an_id_of_their_own(tmp_path: Path) -> None:
    stage = MarkDuplicates(listed(tmp_path, {"s:2": 1, "s:3": 2}))
    rows = [example(f"s:{n}") for n in (1, 2, 3)]
    apply_stages([stage], rows)
    assert [row["status"] for row in rows] == ["ok", "filtered:duplicate", "filtered:duplicate"]
    assert [row["row_id"] for row in rows] == ["abc", "abc-1", "abc-2"]


def test_a_new_list_of_duplicates_is_read_anew(tmp_path: Path) -> None:
    stage = MarkDuplicates(listed(tmp_path, {}))
    apply_stages([stage], [example("s:1")])
    listed(tmp_path, {"s:1": 1})
    row = example("s:1")
    apply_stages([stage], [row])
    assert row["status"] == "filtered:duplicate"
