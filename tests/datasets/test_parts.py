"""Big inputs in parts: however they are divided, what is read is what one reader reads."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from pipelines.datasets import hub_rows
from pipelines.datasets import parts as module
from pipelines.datasets.part import Part
from pipelines.datasets.parts import divide, measure, placed, shown
from pipelines.datasets.preview import preview
from pipelines.datasets.readers import Input, inputs, read_input
from pipelines.datasets.reading import Reading, in_scope, read_rows, survey
from pipelines.datasets.spec import DatasetSpec, RawRecord

SOURCE: dict[str, Any] = {
    "name": "mine",
    "task": "classification",
    "files": ["x.jsonl"],
    "license": "CC0-1.0",
    "published": 2024,
    "allowed": ["Yes", "No"],
    "fields": {"instruction": "record.q", "responses": "[record.a]", "verdict": "record.v"},
}
SPEC = DatasetSpec(**SOURCE)
LINES = "".join(json.dumps({"q": f"q{n}", "a": "a" * n, "v": "Yes"}) + "\n" for n in range(20)).encode()


def in_parts(spec: DatasetSpec, source: Input, size: int) -> list[Input]:
    """The parts, each in its place, as a job divides them."""
    parts = list(divide(spec, source, size).parts)
    return placed(parts, [measure(spec, part) for part in parts]) if parts[0].part else parts


def read(spec: DatasetSpec, parts: list[Input], root: Path) -> list[RawRecord]:
    return [raw for part in parts for raw in read_input(spec, part, root)]


def the_input(spec: DatasetSpec, root: Path, content: bytes, name: str = "x.jsonl") -> Input:
    (root / name).write_bytes(content)
    (source,) = inputs(spec, root)
    return source


PIECES = st.sampled_from(
    [
        b'{"q": "one"}',
        '{"q": "\u00e9\U0001f600\u2028"}'.encode(),
        b'{"q": "one", "q": "two"}',
        b'{"q": "' + b"long " * 20 + b'"}',
        b"{broken",
        b'{"q": "\xff\xfe"}',
        b"[1, 2]",
        b"",
        b" \t",
        b"\x0b\x0c",
        b"\xef\xbb\xbf",
        b'\xef\xbb\xbf{"q": 1}',
        b"\r",
        b'{"q":\r1}',
        b"null",
    ]
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(PIECES, st.sampled_from([b"\n", b"\r\n", b"\n\n"])), max_size=8),
    PIECES,
    st.integers(1, 60),
    st.sampled_from([None, "cp1252"]),
)
@example([(b"\xef\xbb\xbf", b"\n"), (b'{"q": 1}', b"\n")], b"", 3, None)
@example([(b'{"q": 1}', b"\n")], b'{"q": "' + b"x" * 100 + b'"}', 9, None)
def test_any_division_of_lines_gives_what_one_reader_gives(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[bytes, bytes]], last: bytes, size: int, encoding: Any
) -> None:
    root = tmp_path_factory.mktemp("lines", numbered=True)
    spec = DatasetSpec(**SOURCE, encoding=encoding)
    source = the_input(spec, root, b"".join(part for line in lines for part in line) + last)
    try:
        whole = list(read_input(spec, source, root))
    except UserError:  # a list that does not end: then it is no file of lines, and is not divided
        assert divide(spec, source, size).parts == [source]
        return
    assert read(spec, in_parts(spec, source, size), root) == whole


def test_a_record_belongs_to_the_part_in_which_its_line_begins(tmp_path: Path) -> None:
    source = the_input(SPEC, tmp_path, b'{"q": 0}\n\n{"q": 1}\n{"q": 22222222222222}\n{"q": 3}')
    parts = in_parts(SPEC, source, 10)
    assert [[raw.where for raw in read_input(SPEC, part, tmp_path)] for part in parts] == [
        ["x.jsonl line 1"], ["x.jsonl line 3", "x.jsonl line 4"], [], [], ["x.jsonl line 5"],
    ]  # fmt: skip
    assert [raw.position for raw in read(SPEC, parts, tmp_path)] == [f"0000.{n:09d}" for n in range(4)]


def test_counting_does_not_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = the_input(SPEC, tmp_path, LINES + b"{broken")
    monkeypatch.setattr("pipelines.datasets.json_records.Decoder", None)
    parts = in_parts(SPEC, source, 100)
    assert sum(part.part.records or 0 for part in parts if part.part) == 21
    # Nor does the survey, where no record makes several rows.
    counted = [survey(Reading(SPEC, part, tmp_path), None) for part in parts]
    assert sum(found.rows for found in counted) == sum(found.records for found in counted) == 21


@pytest.mark.parametrize("each", [None, "record.q"])
@pytest.mark.parametrize("sample", [None, 7])
@pytest.mark.parametrize("size", [50, 333])
def test_rows_ids_samples_and_counts_are_those_of_the_whole(
    tmp_path: Path, each: str | None, sample: int | None, size: int
) -> None:
    spec = DatasetSpec(**SOURCE, each=each)
    source = the_input(spec, tmp_path, LINES + b"{broken\n" + LINES)

    def made(parts: list[Input]) -> tuple[Any, list[Any]]:
        readings = [Reading(spec, part, tmp_path, seed=3) for part in parts]
        counts, scoped = in_scope(readings, [survey(one, sample) for one in readings], sample)
        return counts, [row for one in scoped for row in read_rows(one)]

    parts = in_parts(spec, source, size)
    assert len(parts) > 2
    assert made(parts) == made([source])


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=7), st.integers(1, 2000))
def test_any_division_of_row_groups_gives_what_one_reader_gives(
    tmp_path_factory: pytest.TempPathFactory, groups: list[int], size: int
) -> None:
    root = tmp_path_factory.mktemp("groups", numbered=True)
    spec = DatasetSpec(**{**SOURCE, "files": ["x.parquet"]})
    table = pa.table({"q": [f"q{n}" for n in range(sum(groups))], "n": pa.array(range(sum(groups)), pa.float32())})
    with pq.ParquetWriter(root / "x.parquet", table.schema) as writer:
        for number, rows in enumerate(groups):
            writer.write_table(table.slice(sum(groups[:number]), rows))
    (source,) = inputs(spec, root)
    parts = in_parts(spec, source, size)
    assert read(spec, parts, root) == list(read_input(spec, source, root))
    if size < 100:  # less than any group
        assert len(parts) == len(groups)


def test_a_hub_dataset_is_read_by_its_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        rows = "".join(json.dumps({"q": f"{number} {row}"}) + "\n" for row in range(number))
        (tmp_path / f"train-{number}.jsonl").write_text(rows or json.dumps({"q": "none"}) + "\n")
    monkeypatch.setattr(module, "HUB_PARTS", 3)
    spec = DatasetSpec(**{**SOURCE, "files": [], "hub": {"id": str(tmp_path)}})
    assert spec.hub is not None
    stream = hub_rows.hub_stream(spec.hub)  # once: it takes a while
    for each in (module, hub_rows):
        monkeypatch.setattr(each, "hub_stream", lambda hub: stream)
    (source,) = inputs(spec, None)
    parts = in_parts(spec, source, 1)
    assert [part.part for part in parts] == [Part(0, 1, 1, 0), Part(1, 3, 3, 1), Part(3, 5, 7, 4)]
    assert read(spec, parts, tmp_path) == list(read_input(spec, source, tmp_path))


def test_a_file_behind_a_url_is_read_from_the_middle(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/parts/x.jsonl", LINES)
    spec = DatasetSpec(**{**SOURCE, "files": ["memory://parts/*.jsonl"]})
    (source,) = inputs(spec, None)
    parts = in_parts(spec, source, 100)
    assert len(parts) > 5
    assert read(spec, parts, tmp_path) == list(read_input(spec, source, tmp_path))


WHOLE = [
    ("x.jsonl", gzip.compress(LINES), {}, "gzip can only be unpacked from its beginning"),
    ("x.json", b"[" + LINES.strip().replace(b"\n", b",\n") + b"]", {}, "it is not one record a line"),
    ("x.json", b'{"data": []}', {"records": "document.data"}, "it is not one record a line"),
    ("x.jsonl", LINES.decode().encode("utf-16"), {}, "it is not one record a line"),
    ("x.csv", b"q,a\n1,2\n" * 20, {}, "a cell in quotation marks may hold line ends"),
    ("x.jsonl", LINES, {"loader": "pipelines.datasets.json_records:read_records"}, "a loader reads it"),
]


@pytest.mark.parametrize(("name", "content", "more", "why"), WHOLE)
def test_what_cannot_be_divided_is_one_task_and_a_dry_run_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, more: dict[str, Any], why: str
) -> None:
    spec = DatasetSpec(**{**SOURCE, "files": [name], **more})
    source = the_input(spec, tmp_path, content, name)
    found = divide(spec, source, 10)
    assert found.parts == [source] and found.whole_because.startswith(why)
    monkeypatch.setattr(module, "PART_BYTES", 10)
    assert (shown(spec, source) or "").startswith(f"{name}: 0 MB, read by one task: {why}")


def test_a_dry_run_says_how_a_big_file_is_read_and_nothing_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = the_input(SPEC, tmp_path, LINES)
    assert shown(SPEC, source) is None
    assert divide(SPEC, source).parts == [source]
    monkeypatch.setattr(module, "PART_BYTES", 100)
    parts = len(divide(SPEC, source).parts)
    assert f"x.jsonl: 0 MB, read in {parts} parts at once" in preview(SPEC, tmp_path)


def test_a_file_that_cannot_be_read_is_left_to_its_reader(tmp_path: Path) -> None:
    spec = DatasetSpec(**{**SOURCE, "files": ["x.parquet"]})
    source = the_input(spec, tmp_path, b"PAR1 no", "x.parquet")
    assert divide(spec, source, 2).parts == [source]
    with pytest.raises(UserError, match="not a readable parquet file"):
        list(read_input(spec, source, tmp_path))
    gone = replace(the_input(SPEC, tmp_path, LINES), part=Part(0, 10))
    (tmp_path / "x.jsonl").unlink()
    with pytest.raises(UserError, match=r"x\.jsonl: not a readable jsonl file"):
        measure(SPEC, gone)
