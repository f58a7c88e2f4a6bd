"""JSON in whichever layout a file has: the suffix is only a claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import UserError
from pipelines.datasets.readers import read_file

ONE, TWO = {"q": "one"}, {"q": "two"}
LINES = '{"q": "one"}\n{"q": "two"}\n'


def read(folder: Path, text: str, file_format: Any) -> list[Any]:
    path = folder / "x.json"
    path.write_text(text, encoding="utf-8")
    return [value if problem is None else problem for _, value, problem in read_file(path, file_format)]


@pytest.mark.parametrize("file_format", ["json", "jsonl"])
@pytest.mark.parametrize(
    "text",
    [
        LINES,
        "\n" + LINES + "\n\n",
        "\ufeff" + LINES,
        LINES.replace("\n", "\r\n"),
        '[{"q": "one"}, {"q": "two"}]',
        '[{"q": "one"},\n{"q": "two"}]\n',
        json.dumps([ONE, TWO], indent=2),
        "\ufeff \n" + json.dumps([ONE, TWO], indent=2),
    ],
)
def test_lines_and_lists_are_told_apart_by_their_content(tmp_path: Path, text: str, file_format: str) -> None:
    assert read(tmp_path, text, file_format) == [ONE, TWO]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_document_with_one_list_of_records_is_that_list(tmp_path: Path, indent: int | None) -> None:
    text = json.dumps({"version": "1.1", "by": {"name": "x"}, "data": [ONE, TWO]}, indent=indent)
    assert read(tmp_path, text, "json") == [ONE, TWO]


@pytest.mark.parametrize(
    "document",
    [{"a": [ONE], "b": [TWO]}, {"a": ["text"]}, {"q": [1, 2], "v": [3, 4]}, {"a": []}, {"a": {"b": [ONE]}}, ONE, {}],
)
def test_any_other_document_is_refused_with_its_keys(tmp_path: Path, document: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"not a list of records but a mapping with .*`records`, such as document\["):
        read(tmp_path, json.dumps(document), "json")


def test_one_record_a_line_may_be_one_record(tmp_path: Path) -> None:
    assert read(tmp_path, '{"q": "one"}', "jsonl") == [ONE]
    assert read(tmp_path, '{"data": [{"q": "one"}]}\n{"data": []}', "json") == [{"data": [ONE]}, {"data": []}]
    assert read(tmp_path, "[1, 2]\n[3, 4]", "jsonl") == [[1, 2], [3, 4]]


@pytest.mark.parametrize("file_format", ["json", "jsonl"])
@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("bad", ['{"q": ', "{broken}", '{"q": "x"} {"q": "y"}', "{" * 5000])
def test_a_bad_line_costs_itself_wherever_it_stands(tmp_path: Path, bad: str, at: int, file_format: str) -> None:
    lines = ['{"q": "one"}', '{"q": "two"}']
    lines.insert(at, bad)
    expected: list[Any] = [ONE, TWO]
    expected.insert(at, "invalid_json")
    assert read(tmp_path, "\n".join(lines), file_format) == expected


def test_a_first_line_that_only_begins_like_a_list_costs_itself(tmp_path: Path) -> None:
    assert read(tmp_path, "[" * 100_000 + "\n" + LINES, "jsonl") == ["invalid_json", ONE, TWO]
    assert read(tmp_path, "[oops\n" + LINES, "jsonl") == ["invalid_json", ONE, TWO]


def test_a_list_that_breaks_off_is_refused_with_the_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at line 4"):
        read(tmp_path, '[{"q": "one"},\n{"q": "two"},\n\n{"q" "three"}]', "json")


@pytest.mark.parametrize("file_format", ["json", "jsonl"])
@pytest.mark.parametrize(
    "text", ['{"q": "one"}\n{"q": 1, "v": {"a": 1, "a": 2}}\n', '[{"q": "one"}, {"q": 1, "q": 2}]']
)
def test_a_key_twice_costs_its_record(tmp_path: Path, text: str, file_format: str) -> None:
    first, second = read(tmp_path, text, file_format)
    assert (first, second[:10]) == (ONE, "key_twice:")


def test_a_key_twice_in_a_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a mapping has the key 'data' twice"):
        read(tmp_path, '{"data": [{"q": 1}],\n "data": [{"q": 2}]}', "json")


def test_columns_are_told_how_to_become_records(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`document \| transpose` if these are columns"):
        read(tmp_path, json.dumps({"q": ["a", "b"], "v": ["c", "d"]}), "json")
    columns = {"q": {"0": "a", "1": "b"}, "v": {"0": "c", "1": "d"}}
    with pytest.raises(UserError, match=r"`document \| values` if these are records, `document \| transpose` if"):
        read(tmp_path, json.dumps(columns), "json")
    found = [value for _, value, _ in read_file(tmp_path / "x.json", "json", "document | transpose")]
    assert found == [{"q": "a", "v": "c"}, {"q": "b", "v": "d"}]
