"""Sheets and parquet: cells of odd types cost their row or are refused, and never shift, cut or overwrite another."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import UserError
from pipelines.datasets.readers import read_file, read_raw
from pipelines.datasets.spec import adapt
from tests.datasets.test_readers import dataset


def sheet(folder: Path, *rows: list[Any]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(folder / "x.xlsx")
    return folder / "x.xlsx"


def test_a_cell_without_a_column_and_a_formula_that_failed_cost_their_row(tmp_path: Path) -> None:
    path = sheet(tmp_path, ["q", "n", None], ["a", 1], ["b", 2, "more"], ["#N/A", 3], ["c", 4, None])
    found = [(where, value if problem is None else problem) for where, value, problem in read_file(path, "xlsx")]
    assert found == [
        ("row 2", {"q": "a", "n": 1}),
        ("row 3", "wrong_number_of_cells"),
        ("row 4", "cell_error:#N/A"),
        ("row 5", {"q": "c", "n": 4}),
    ]


@pytest.mark.parametrize("header", [["q", None, "n"], ["q", "q"], [None, None], []])
def test_a_sheet_must_name_its_columns_once_each(tmp_path: Path, header: list[Any]) -> None:
    with pytest.raises(UserError, match=r"row 1: the first row must name every column"):
        list(read_file(sheet(tmp_path, header, ["a", "b", "c"]), "xlsx"))


def test_an_index_without_a_name_is_left_out(tmp_path: Path) -> None:
    path = sheet(tmp_path, [None, "q", "n"], [0, "a", 1])
    assert [value for _, value, _ in read_file(path, "xlsx")] == [{"q": "a", "n": 1}]


def workbook(folder: Path, **sheets: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        page = book.create_sheet(title)
        for row in rows:
            page.append(row)
    book.save(folder / "x.xlsx")
    return folder / "x.xlsx"


def test_the_first_sheet_that_is_not_empty_is_read_beside_others_with_other_columns(tmp_path: Path) -> None:
    path = workbook(tmp_path, cover=[], data=[["q"], ["a"]], legend=[["label", "meaning"], [1, "good"]])
    assert [(where, value) for where, value, _ in read_file(path, "xlsx")] == [("row 2", {"q": "a"})]


def test_of_several_sheets_with_the_same_columns_none_is_left_out_in_silence(tmp_path: Path) -> None:
    path = workbook(tmp_path, train=[["q"], ["a"]], test=[["q"], ["b"]])
    with pytest.raises(UserError, match=r"the sheets train, test have the same columns .name .*`sheets: \[train\]`"):
        list(read_file(path, "xlsx"))
    assert [value for _, value, _ in read_file(path, "xlsx", sheets=["test"])] == [{"q": "b"}]
    both = [(where, value["q"]) for where, value, _ in read_file(path, "xlsx", sheets=["train", "test"])]
    assert both == [("sheet train row 2", "a"), ("sheet test row 2", "b")]
    with pytest.raises(UserError, match=r"no sheet 'dev' .its sheets are train, test"):
        list(read_file(path, "xlsx", sheets=["dev"]))


def test_a_parquet_value_that_python_lacks_costs_its_row(tmp_path: Path) -> None:
    times = pa.array([0, 1, 10**9], pa.timestamp("ns"))
    pq.write_table(pa.table({"q": ["a", "b", "c"], "n": ["1", "2", "3"], "at": times}), tmp_path / "x.parquet")
    far = pa.array([0, 4_000_000, 1], pa.date32())  # the year 12921
    pq.write_table(pa.table({"q": ["a", "b", "c"], "n": ["1", "2", "3"], "at": far}), tmp_path / "y.parquet")
    for name in ("x", "y"):
        one = dataset(files=[f"{name}.parquet"])
        statuses = [adapt(one, raw)[0]["status"] for raw in read_raw(one, tmp_path)]
        assert statuses[::2] == ["ok", "ok"], name
        assert statuses[1] == "ok" or statuses[1].startswith("error:unreadable_value:"), name
    assert statuses[1].startswith("error:unreadable_value:")


def test_a_parquet_map_is_a_mapping_and_a_column_twice_is_refused(tmp_path: Path) -> None:
    maps = pa.array([[("a", "x")], [("a", "x"), ("a", "y")]], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"m": maps}), tmp_path / "x.parquet")
    assert [value or problem[:16] for _, value, problem in read_file(tmp_path / "x.parquet", "parquet")] == [
        {"m": {"a": "x"}},
        "unreadable_value",
    ]
    pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["q", "q"]), tmp_path / "x.parquet")
    with pytest.raises(UserError, match="the column 'q' is there twice"):
        list(read_file(tmp_path / "x.parquet", "parquet"))


@pytest.mark.parametrize("value", [datetime.date(2024, 5, 1), b"text", True, {"a": 1}])
def test_a_parquet_value_that_is_no_text_is_an_error_row(tmp_path: Path, value: Any) -> None:
    pq.write_table(pa.table({"q": pa.array([value]), "n": ["1"]}), tmp_path / "x.parquet")
    one = dataset(files=["x.parquet"])
    (row,) = [adapt(one, raw)[0] for raw in read_raw(one, tmp_path)]
    assert row["status"].startswith("error:mapping:instruction:TypeError")


def test_a_narrow_number_is_the_one_that_was_written(tmp_path: Path) -> None:
    single, half = pa.float32(), pa.float16()
    columns = {
        "one": pa.array([3.3, None, math.nan], single),
        "half": pa.array(np.array([0.7, 2.0, -0.1], np.float16), half),
        "several": pa.array([[0.1, None], None, []], pa.list_(single)),
        "inside": pa.array([{"a": 0.7, "b": 0.7}, None, {"a": None, "b": 1.0}], pa.struct({"a": single, "b": "f8"})),
        "named": pa.array([[("x", 0.2)], None, []], pa.map_(pa.string(), single)),
        "wide": pa.array([3.3, 1e300, 0.1], pa.float64()),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    first, second, third = (value for _, value, _ in read_file(tmp_path / "x.parquet", "parquet"))
    assert first == {
        "one": 3.3,
        "half": 0.7,
        "several": [0.1, None],
        "inside": {"a": 0.7, "b": 0.7},
        "named": {"x": 0.2},
        "wide": 3.3,
    }
    assert second == {"one": None, "half": 2.0, "several": None, "inside": None, "named": None, "wide": 1e300}
    assert math.isnan(third["one"]) and third["inside"] == {"a": None, "b": 1.0} and third["named"] == {}
