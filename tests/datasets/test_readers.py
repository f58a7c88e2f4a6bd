"""Readers: every format, as a stream; a bad file is one clear line, a bad row is a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from pipelines.datasets import json_records
from pipelines.datasets.readers import contents, inputs, read_file, read_raw
from pipelines.datasets.sheets import sheets
from pipelines.datasets.spec import DatasetSpec, adapt

RECORDS = [{"q": "one", "n": "1"}, {"q": "zwei\n€", "n": "2"}, {"q": "", "n": "3"}]


def dataset(**changes: Any) -> DatasetSpec:
    fields = {"instruction": "record.q", "responses": "[record.q]", "verdict": "record.n"}
    raw = {
        "name": "mine",
        "task": "absolute",
        "license": "MIT",
        "allowed": "1..5",
        "fields": fields,
        **changes,
    }
    return DatasetSpec.model_validate(raw)


def values(path: Path, file_format: Any, records: str | None = None) -> list[Any]:
    return [(value, problem) for _, value, problem in read_file(path, file_format, records)]


def write(path: Path, file_format: str) -> None:
    if file_format == "json":
        path.write_text(json.dumps(RECORDS), encoding="utf-8")
    elif file_format == "jsonl":
        path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in RECORDS), encoding="utf-8")
    elif file_format in ("csv", "tsv"):
        between = "," if file_format == "csv" else "\t"
        body = "".join(f'"{r["q"]}"{between}{r["n"]}\n' for r in RECORDS)
        path.write_text(f"q{between}n\n{body}", encoding="utf-8")
    elif file_format == "parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
    else:
        book = openpyxl.Workbook()
        book.active.append(["q", "n"])
        for record in RECORDS:
            book.active.append([record["q"] or None, record["n"]])
        book.save(path)


@pytest.mark.parametrize("file_format", ["json", "jsonl", "csv", "tsv", "parquet", "xlsx"])
def test_all_formats_give_the_same_records(tmp_path: Path, file_format: str) -> None:
    write(tmp_path / f"x.{file_format}", file_format)
    found = list(read_raw(dataset(files=[f"x.{file_format}"]), tmp_path))
    expected = RECORDS if file_format != "xlsx" else [*RECORDS[:2], {"q": None, "n": "3"}]
    assert [raw.value for raw in found] == expected
    assert [raw.position for raw in found] == [f"0000.{n:09d}" for n in range(3)]
    assert {raw.file for raw in found} == {"x"}


@pytest.mark.parametrize("file_format", ["json", "csv", "parquet", "xlsx"])
@pytest.mark.parametrize("damage", ["empty", "cut", "noise"])
def test_a_corrupt_file_is_one_line_that_names_it(tmp_path: Path, file_format: str, damage: str) -> None:
    path = tmp_path / f"x.{file_format}"
    write(path, file_format)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "noise": b'"\x00\xff\xfe{{' * 9}[damage])
    if file_format == "csv" and damage == "cut":  # half a table is a table
        return
    with pytest.raises(UserError) as caught:
        list(read_raw(dataset(files=[path.name]), tmp_path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parquet_damaged_inside_is_found_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"q": [str(n) * 50 for n in range(2000)]}), path, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[100:400] = bytes(300)
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"x\.parquet: not a readable parquet file"):
        list(read_file(path, "parquet"))


def test_bad_lines_of_jsonl_are_rows_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"q": "a", "n": 1}\n{"q": \n\n{"q": "\xff", "n": 2}\r\n{"q": "b", "n": 3}')
    read = list(read_raw(dataset(files=["x.jsonl"]), tmp_path))
    assert [raw.problem for raw in read] == [None, "invalid_json", "invalid_utf8", None]
    assert [raw.where for raw in read] == [f"x.jsonl line {n}" for n in (1, 2, 4, 5)]
    statuses = [adapt(dataset(files=["x.jsonl"]), raw)[0]["status"] for raw in read]
    assert statuses == ["ok", "error:invalid_json", "error:invalid_utf8", "ok"]


def test_bad_rows_of_csv_are_rows_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"q,n\na,1\nb\nc,2,3\n\xff,4\nd,5\n")
    problems = [problem for _, problem in values(path, "csv")]
    assert problems == [None, "wrong_number_of_cells", "wrong_number_of_cells", "invalid_utf8", None]


def test_bytes_that_are_no_text_spoil_one_record_of_a_json_list(tmp_path: Path) -> None:
    good, bad = '{"q": "a", "n": 1}', '{"q": "?", "n": 2}'
    data = f"[{good}, {bad}, {good}]".encode().replace(b"?", b"\xff")
    (tmp_path / "x.json").write_bytes(data)
    (tmp_path / "y.json").write_bytes(b'{"list": ' + data + b"}")
    for changes in ({"files": ["x.json"]}, {"files": ["y.json"], "records": "document.list"}):
        one = dataset(**changes)
        statuses = [adapt(one, raw)[0]["status"] for raw in read_raw(one, tmp_path)]
        assert statuses == ["ok", "filtered:invalid_unicode", "ok"]


def test_bytes_that_are_no_text_spoil_one_row_of_a_parquet_file(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"\xff", b"b"]).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"q": texts, "n": ["1", "2", "3"]}), tmp_path / "x.parquet")
    one = dataset(files=["x.parquet"])
    statuses = [adapt(one, raw)[0]["status"] for raw in read_raw(one, tmp_path)]
    assert statuses == ["ok", "error:invalid_utf8", "ok"]


def test_a_blank_row_of_a_sheet_is_a_record_of_nulls(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (["q", "n"], ["a", 1], [None, None], ["b", 2]):
        book.active.append(row)
    book.save(tmp_path / "x.xlsx")
    assert [value["q"] for value, _ in values(tmp_path / "x.xlsx", "xlsx")] == ["a", None, "b"]


def test_the_first_sheet_alone_is_a_table_and_all_sheets_can_be_read(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["q", "n"])
    book.active.append(["a", 1])
    book.create_sheet("more").append(["b", 2])
    book.save(tmp_path / "x.xlsx")
    assert [value["q"] for value, _ in values(tmp_path / "x.xlsx", "xlsx")] == ["a"]
    assert [(title, list(rows)) for title, rows in sheets(tmp_path / "x.xlsx")] == [
        ("Sheet", [(1, ("q", "n")), (2, ("a", 1))]),
        ("more", [(1, ("b", 2))]),
    ]


def join(paths: list[Path]) -> Any:
    """A loader: one record of all files."""
    yield "all files", {"q": " ".join(path.read_text() for path in paths), "n": "3"}, None


def test_a_loader_reads_all_files_together_in_the_order_named(tmp_path: Path) -> None:
    for name, text in (("a.txt", "one"), ("b.txt", "two"), ("c.txt", "three")):
        (tmp_path / name).write_text(text)
    one = dataset(files=["c.txt", "[ab].txt", "a.txt"], loader=f"{__name__}:join")
    (raw,) = read_raw(one, tmp_path)
    assert raw.value["q"] == "three one two"
    assert (raw.position, raw.where, raw.file) == ("0000.000000000", "c.txt all files", "c")
    (tmp_path / "c.txt").unlink()
    with pytest.raises(UserError, match=r"no such file: c\.txt"):
        list(read_raw(one, tmp_path))


def test_records_reach_into_a_nested_document(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"s": {"one": [{"q": 1}, {"q": 2}], "two": [{"q": 3}]}, "columns": {"q": [4, 5]}}))
    assert [v["q"] for v, _ in values(path, "json", "document.s | values | flatten")] == [1, 2, 3]
    assert [v["q"] for v, _ in values(path, "json", "document.columns | transpose")] == [4, 5]
    with pytest.raises(UserError, match="expression `records` fails"):
        values(path, "json", "document.gone")
    with pytest.raises(UserError, match="dict where a list is needed"):
        values(path, "json", "document.s")
    with pytest.raises(UserError, match=r"not a list of records .*`records`"):
        values(path, "json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    listed=st.lists(JSON, max_size=6),
    chunk=st.integers(1, 9),
    indent=st.sampled_from([None, 1]),
    ascii=st.booleans(),
)
@example(listed=[0.5, 12, -1.5e3, 1e-7, True, None, "]", "\\"], chunk=1, indent=None, ascii=False)
@example(listed=[0.5, 12, -1.5e3, 1e-7, True, None, "]", "\\"], chunk=2, indent=1, ascii=True)
def test_streamed_json_is_what_the_library_reads(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    listed: list[Any],
    chunk: int,
    indent: int | None,
    ascii: bool,
) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(listed, indent=indent, ensure_ascii=ascii), encoding="utf-8")
    monkeypatch.setattr(json_records, "CHUNK", chunk)
    assert [value for value, _ in values(path, "json")] == listed


@pytest.mark.parametrize("text", ["[1, 2", "[1 2]", "[1,, 2]", '[{"a": 1}, {"a"', "[1] x", "[,1]", "[1,]"])
def test_malformed_json_lists_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match="not a readable JSON file"):
        values(path, "json")


def test_files_are_found_by_glob_in_order_and_once(tmp_path: Path) -> None:
    root = tmp_path / "a[b]"  # not a pattern
    (root / "deep").mkdir(parents=True)
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl"):
        (root / name).write_text("{}")
    found = inputs(dataset(files=["*.jsonl", "a.jsonl", "deep/*"]), root)
    assert [(source.number, source.name) for source in found] == [
        (0, "a.jsonl"),
        (1, "b.jsonl"),
        (2, "deep/c.jsonl"),
    ]


@pytest.mark.parametrize("file_format", ["json", "jsonl", "csv", "tsv", "parquet", "xlsx"])
def test_a_url_with_wildcards_is_read_like_a_folder(tmp_path: Path, file_format: str) -> None:
    import fsspec

    store = fsspec.filesystem("memory")  # as any store: no local path to fall back to
    for name in ("b", "a"):
        write(tmp_path / f"{name}.{file_format}", file_format)
        store.pipe(f"/bucket/{name}.{file_format}", (tmp_path / f"{name}.{file_format}").read_bytes())
    local = list(read_raw(dataset(files=[f"*.{file_format}"]), tmp_path))
    for url in (f"memory://bucket/*.{file_format}", f"file://{tmp_path}/*.{file_format}"):
        found = list(read_raw(dataset(files=[url]), None))
        assert [(raw.value, raw.position, raw.file) for raw in found] == [
            (raw.value, raw.position, raw.file) for raw in local
        ]


def test_a_url_that_leads_nowhere_is_one_line(tmp_path: Path) -> None:
    for url, says in (
        ("memory://bucket/none-*.json", "no such file: memory://bucket/none-"),
        ("memory://bucket/none.json", "no such file"),
        ("nonsense://bucket/x.json", "cannot be listed"),
    ):
        with pytest.raises(UserError, match=says):
            inputs(dataset(files=[url]), None)


def test_a_missing_file_names_itself_and_data_root(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        inputs(dataset(files=["gone/*.json"]), tmp_path)
    assert "source 'mine'" in str(caught.value)
    assert "gone/*.json" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(UserError, match="OPENSELENE_DATA_ROOT"):
        inputs(dataset(files=["gone/*.json"]), None)


def test_an_unknown_suffix_asks_for_the_format(tmp_path: Path) -> None:
    (tmp_path / "x.dat").write_text('{"q": 1}')
    with pytest.raises(UserError, match="set `format`"):
        list(read_raw(dataset(files=["x.dat"]), tmp_path))
    assert len(list(read_raw(dataset(files=["x.dat"], format="jsonl"), tmp_path))) == 1


def test_packaged_files_need_no_data_root() -> None:
    packaged = dataset(files=["package:pipelines.data.sample/pairwise.jsonl"])
    assert len(list(read_raw(packaged, None))) > 50


def test_side_tables_join_by_key(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"id": 1, "n": 2}\n{"id": 9, "n": 2}')
    (tmp_path / "t.json").write_text('[{"id": 1, "q": "first"}, {"id": 1, "q": "second"}]')
    joined = dataset(
        files=["x.jsonl"],
        tables={"t": {"file": "t.json", "key": "record.id"}},
        fields={"instruction": "tables.t[record.id].q", "responses": "['r']", "verdict": "record.n"},
    )
    first, second = [adapt(joined, raw)[0] for raw in read_raw(joined, tmp_path)]
    assert (first["instruction"], first["status"]) == ("first", "ok")
    assert second["status"].startswith("error:missing_field:9:fields.instruction of source 'mine'")


def test_a_record_without_a_key_belongs_to_no_row(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"id": null, "n": 2}')
    (tmp_path / "t.jsonl").write_text('{"id": null, "q": "first"}\n{"id": NaN, "q": "x"}\n{"id": "1", "q": "second"}')
    fields = {"instruction": "tables.t[record.id].q", "responses": "['r']", "verdict": "record.n"}
    joined = dataset(files=["x.jsonl"], tables={"t": {"file": "t.jsonl", "key": "record.id"}}, fields=fields)
    (raw,) = read_raw(joined, tmp_path)
    assert list(raw.tables["t"]) == ["1"]
    assert adapt(joined, raw)[0]["status"].startswith("error:")


def test_a_package_that_is_not_there_is_one_line() -> None:
    with pytest.raises(UserError, match="no such file: package:no_such_package/x"):
        list(read_raw(dataset(files=["package:no_such_package/x.jsonl"]), None))


def test_names_of_a_sheet_s_columns_are_read_without_the_spaces_around_them(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for cells in (["q ", " n"], [" x ", 1]):
        book.active.append(cells)
    book.save(tmp_path / "x.xlsx")
    assert values(tmp_path / "x.xlsx", "xlsx") == [({"q": " x ", "n": 1}, None)]


def test_the_hub_is_read_only_without_local_files_and_its_absence_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    both = dataset(files=["x.jsonl"], hub={"id": "nobody/nothing"})
    with pytest.raises(UserError) as caught:
        list(read_raw(both, tmp_path))
    assert "hub dataset nobody/nothing: cannot be read" in str(caught.value)
    assert "x.jsonl" in str(caught.value)
    assert "\n" not in str(caught.value)
    (tmp_path / "x.jsonl").write_text('{"q": "local", "n": 1}')
    assert [raw.value["q"] for raw in read_raw(both, tmp_path)] == ["local"]


def test_the_content_of_a_source_is_that_of_every_file_it_reads_wherever_they_lie(tmp_path: Path) -> None:
    root, files = tmp_path / "data", {"a.txt": "one", "b.txt": "two", "t.json": "[]"}
    root.mkdir()
    for name, text in files.items():
        (root / name).write_text(text)
    table = {"t": {"file": "t.json", "key": "record.id"}}
    one = dataset(files=["a.txt", "b.txt"], loader=f"{__name__}:join", tables=table)
    seen = [contents(one, root)]
    assert [entry.split()[0] for entry in seen[0]] == ["a.txt", "b.txt", "t.json", "test_readers.py"]
    for name in files:
        (root / name).write_text("new")  # of the same length, for two of them
        seen.append(contents(one, root))
    assert len({str(each) for each in seen}) == 4
    moved = root.rename(tmp_path / "elsewhere")
    assert contents(one, moved) == seen[-1]
    (moved / "t.json").unlink()
    with pytest.raises(UserError, match=r"no such file: t\.json"):
        contents(one, moved)
    assert contents(dataset(hub={"id": "nobody/nothing"}), moved) == ["nobody/nothing None"]  # no commit is known


def test_the_content_of_a_file_behind_a_url_is_read_too() -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    for name, text in (("x", b"[1]"), ("y", b"[2]")):
        store.pipe(f"/contents/{name}.json", text)
    first, second = contents(dataset(files=["memory://contents/*.json"]), None)
    assert first.split()[1] != second.split()[1]
