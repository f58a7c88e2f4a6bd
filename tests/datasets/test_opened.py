"""Files as their content is: compressed in any of the common ways, in any of the marked encodings, or refused."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.core.errors import UserError
from pipelines.datasets.readers import read_raw
from pipelines.datasets.spec import adapt
from tests.datasets.test_readers import RECORDS, dataset, write


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
}


def packed(folder: Path, file_format: str, codec: str, name: str = "") -> Path:
    write(folder / f"x.{file_format}", file_format)
    path = folder / (name or f"x.{file_format}.{codec}")
    path.write_bytes(PACK[codec]((folder / f"x.{file_format}").read_bytes()))
    return path


@pytest.mark.parametrize("codec", PACK)
@pytest.mark.parametrize("file_format", ["json", "jsonl", "csv", "tsv", "parquet", "xlsx"])
def test_a_compressed_file_is_read_as_the_file_in_it(tmp_path: Path, file_format: str, codec: str) -> None:
    packed(tmp_path, file_format, codec)
    plain = list(read_raw(dataset(files=[f"x.{file_format}"]), tmp_path))
    found = list(read_raw(dataset(files=[f"x.{file_format}.{codec}"]), tmp_path))
    assert [raw.value["n"] for raw in found] == ["1", "2", "3"]
    assert [(raw.value, raw.file) for raw in found] == [(raw.value, "x") for raw in plain]


@pytest.mark.parametrize("codec", PACK)
def test_the_content_decides_where_the_name_says_nothing(tmp_path: Path, codec: str) -> None:
    packed(tmp_path, "csv", codec, name="renamed.csv")
    assert [raw.value for raw in read_raw(dataset(files=["renamed.csv"]), tmp_path)] == RECORDS


@pytest.mark.parametrize("codec", PACK)
def test_a_file_that_is_cut_off_or_not_compressed_at_all_is_one_line(tmp_path: Path, codec: str) -> None:
    path = packed(tmp_path, "jsonl", codec)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(UserError, match=f"x.jsonl.{codec}: not a readable jsonl file") as caught:
        list(read_raw(dataset(files=[path.name]), tmp_path))
    assert "\n" not in str(caught.value)
    path.write_bytes((tmp_path / "x.jsonl").read_bytes())
    with pytest.raises(UserError, match=r"its name says .*, its content does not"):
        list(read_raw(dataset(files=[path.name]), tmp_path))


def test_a_zip_is_read_if_it_holds_one_file(tmp_path: Path) -> None:
    write(tmp_path / "x.jsonl", "jsonl")
    with zipfile.ZipFile(tmp_path / "x.jsonl.zip", "w") as archive:
        archive.write(tmp_path / "x.jsonl", "x.jsonl")
    assert [raw.value for raw in read_raw(dataset(files=["x.jsonl.zip"]), tmp_path)] == RECORDS
    with zipfile.ZipFile(tmp_path / "x.jsonl.zip", "a") as archive:
        archive.write(tmp_path / "x.jsonl", "y.jsonl")
    with pytest.raises(UserError, match="a zip of 2 files"):
        list(read_raw(dataset(files=["x.jsonl.zip"]), tmp_path))


@pytest.mark.parametrize("file_format", ["json", "jsonl", "csv", "tsv"])
@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
    ],
)
def test_unicode_of_every_kind_is_recognised(tmp_path: Path, file_format: str, encoding: str, mark: bytes) -> None:
    path = tmp_path / f"x.{file_format}"
    write(path, file_format)
    path.write_bytes(mark + path.read_text(encoding="utf-8").encode(encoding))
    assert [raw.value for raw in read_raw(dataset(files=[path.name]), tmp_path)] == RECORDS


@pytest.mark.parametrize("file_format", ["jsonl", "csv", "tsv"])
def test_another_encoding_is_read_if_it_is_named_and_costs_its_rows_if_not(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / f"x.{file_format}"
    write(path, file_format)
    path.write_bytes(path.read_text(encoding="utf-8").encode("cp1252"))  # the second record has a euro sign
    named = dataset(files=[path.name], encoding="cp1252")
    assert [raw.value for raw in read_raw(named, tmp_path)] == RECORDS
    unnamed = dataset(files=[path.name])
    statuses = [adapt(unnamed, raw)[0]["status"] for raw in read_raw(unnamed, tmp_path)]
    assert statuses == ["ok", "error:invalid_utf8", "ok"]


def test_an_encoding_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such encoding"):
        dataset(files=["x.csv"], encoding="utf-9")


def test_a_zip_of_one_file_may_have_its_folder_and_what_macos_adds(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.jsonl.zip", "w") as archive:
        archive.writestr("data/", "")
        archive.writestr("data/x.jsonl", "".join(json.dumps(record) + "\n" for record in RECORDS))
        archive.writestr("__MACOSX/data/._x.jsonl", "no JSON")
        archive.writestr("data/.DS_Store", "neither")
    assert [raw.value for raw in read_raw(dataset(files=["x.jsonl.zip"]), tmp_path)] == RECORDS


@pytest.mark.parametrize(("name", "says"), [("x.jsonl.zip", "not a readable zip file"), ("x.jsonl.tar.gz", "archive")])
def test_what_is_no_zip_and_other_archives_are_refused_in_one_line(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match=says):
        list(read_raw(dataset(files=[name]), tmp_path))
