"""CSV and TSV: the dialect is found in the header, a stray mark costs its own row, and no row takes another's label."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from pipelines.datasets.readers import read_file


def read(folder: Path, text: str, file_format: Any = "csv") -> list[Any]:
    path = folder / f"x.{file_format}"
    path.write_text(text, encoding="utf-8", newline="")
    return [list(value.values()) if problem is None else problem for _, value, problem in read_file(path, file_format)]


def test_a_cell_of_a_tsv_that_begins_with_a_mark_swallows_nothing(tmp_path: Path) -> None:
    text = (
        'q\tv\nfirst\tA\n"Quoted to the end\tB\nthird\tA\nhe said "so"\tB\n'
        '"In full"\tA\n"In part" he said\tB\nlast\tA\n'
    )
    assert read(tmp_path, text, "tsv") == [
        ["first", "A"],
        ['"Quoted to the end', "B"],
        ["third", "A"],
        ['he said "so"', "B"],
        ["In full", "A"],
        ['"In part" he said', "B"],
        ["last", "A"],
    ]


def test_two_marks_of_a_tsv_do_not_join_the_rows_between(tmp_path: Path) -> None:
    text = 'q\tv\n"opens\tA\nmiddle\tB\ncloses"\tA\n"opens\tB'
    assert read(tmp_path, text, "tsv") == [['"opens', "A"], ["middle", "B"], ['closes"', "A"], ['"opens', "B"]]


def test_a_stray_mark_of_a_csv_costs_its_own_row(tmp_path: Path) -> None:
    text = 'q,v\nfirst,A\n"never closed,B\nthird,A\n"fourth, in full",B\n"fifth" he said,A\nsixth,B\n'
    assert read(tmp_path, text) == [
        ["first", "A"],
        "stray_quotation_mark",
        ["third", "A"],
        ["fourth, in full", "B"],
        "stray_quotation_mark",
        ["sixth", "B"],
    ]


def test_a_row_with_a_cell_too_many_or_too_few_costs_itself(tmp_path: Path) -> None:
    text = 'q,v\n"two\nlines",A\n"two\nlines",B,more\none\n5" wide,A\n\nlast,B'
    assert read(tmp_path, text) == [
        ["two\nlines", "A"],
        "wrong_number_of_cells",
        "wrong_number_of_cells",
        ['5" wide', "A"],
        ["last", "B"],
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("file_format", ["csv", "tsv"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_header_shows_the_delimiter(tmp_path: Path, delimiter: str, file_format: str, end: str) -> None:
    rows = [["q", "r", "v"], ["one", "two", "A"], ["three", "four", "B"]]
    assert read(tmp_path, end.join(delimiter.join(row) for row in rows), file_format) == rows[1:]


def test_letters_that_are_also_delimiters_are_letters(tmp_path: Path) -> None:
    assert read(tmp_path, "q;v\nHello, you, there;A\n1,5;B\n") == [["Hello, you, there", "A"], ["1,5", "B"]]
    assert read(tmp_path, "q,v\na;b,A\nc;d,B\n") == [["a;b", "A"], ["c;d", "B"]]
    assert read(tmp_path, "text\na; b\nc\n") == [["a; b"], ["c"]]
    assert read(tmp_path, "sep=;\nq;v\na;A\n") == [["a", "A"]]


def test_where_a_row_stands_is_the_line_it_begins_on(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('q,v\n"a\nb",1\n\nc\nd,2\n')
    assert [where for where, _, _ in read_file(tmp_path / "x.csv", "csv")] == ["line 2", "line 5", "line 6"]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the header row is missing"),
        (b"q,q\n1,2\n", "the header row names the column 'q' twice"),
        (b"caf\xe9,v\na,b\n", "the header row is not UTF-8 .set `encoding`"),
        (b'"q,v\na,b\n', "the header row cannot be read"),
    ],
)
def test_a_header_that_is_none_is_refused_with_its_line(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "x.csv").write_bytes(data)
    with pytest.raises(UserError, match=rf"x\.csv line 1: {says}"):
        list(read_file(tmp_path / "x.csv", "csv"))


CELL = st.text(st.sampled_from('ab",;\n\t é'), max_size=6)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELL, CELL, CELL), max_size=6))
def test_what_the_library_writes_is_read_back(tmp_path: Path, rows: list[tuple[str, str, str]]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("q", "r", "v"), *rows])
    assert read(tmp_path, out.getvalue()) == [list(row) for row in rows]


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(st.sampled_from('ab",\t'), max_size=8),
    st.integers(0, 5),
    st.sampled_from(["csv", "tsv"]),
)
def test_any_line_in_between_leaves_plain_neighbours_alone(tmp_path: Path, bad: str, at: int, file_format: str) -> None:
    between = "," if file_format == "csv" else "\t"
    plain = [f"row {n}{between}{n}" for n in range(6)]
    lines = [*plain[:at], bad, *plain[at:]]
    found = read(tmp_path, "\n".join([f"q{between}v", *lines]) + "\n", file_format)
    kept = [row for row in found if isinstance(row, list) and row[0].startswith("row ")]
    assert kept == [[f"row {n}", str(n)] for n in range(6)]


def test_names_of_columns_are_read_without_the_spaces_around_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q, r , v\n1, 2 ,3\n")
    assert [value for _, value, _ in read_file(tmp_path / "a.csv", "csv")] == [{"q": "1", "r": " 2 ", "v": "3"}]


def test_blank_lines_above_the_header_and_columns_without_a_name_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\n \nq,v,,\n1,2,,\n")
    found = [(where, value["q"], value["v"]) for where, value, _ in read_file(tmp_path / "a.csv", "csv")]
    assert found == [("line 4", "1", "2")]
