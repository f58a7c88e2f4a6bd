"""CSV that a spreadsheet opens: nothing in it runs, numbers stay numbers, and every text comes back as it was."""

from __future__ import annotations

import csv
from typing import Any

import pytest

from pipelines.core import csv_text


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@SUM(1)", "\tx", "\r=1", "-1+1", "-", "+1-cmd", "-inf", "'=x"])
def test_a_text_like_a_formula_gets_an_apostrophe_and_loses_it_again(text: str) -> None:
    assert csv_text.marked(text) == f"'{text}"
    assert csv_text.unmarked(f"'{text}") == text


@pytest.mark.parametrize("cell", [-1, -0.5, float("-inf"), None, True, "-0.5", "+3", "-1e-05", "a=b", "", "'tis", "x"])
def test_other_cells_stay_as_they_are(cell: Any) -> None:
    assert csv_text.marked(cell) is cell
    assert not isinstance(cell, str) or csv_text.unmarked(cell) == cell


def test_lines_come_back_whatever_is_in_them() -> None:
    lines = [["a", "b"], ["=x\r", 'said "y"'], ["one\ntwo", "x\ry,z"], ["", "-3"]]
    text = csv_text.written(lines)
    assert csv_text.read(text) == lines
    assert text.endswith("\n") and text.splitlines()[0] == "a,b"


def test_pythons_own_reader_sees_marked_cells() -> None:
    assert list(csv.reader(csv_text.written([["=1", 2, None]]).splitlines())) == [["'=1", "2", ""]]
