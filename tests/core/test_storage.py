"""Run data: files are whole or absent, listings leave drafts out, digests see every byte."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core import storage
from pipelines.core.errors import UserError

TABLE = pa.table({"n": [1, 2, 3], "text": ["a", "b", None]})


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.json"
    storage.write_json(target, {"é": [1, None]})
    assert storage.read_json(target) == {"é": [1, None]}
    with pytest.raises(RuntimeError), storage.draft(target) as local:
        local.write_text("half")
        raise RuntimeError
    assert storage.read_json(target) == {"é": [1, None]}
    assert [path.name for path in target.parent.iterdir()] == ["a.json"]  # no draft is left behind


def test_a_table_whose_writer_fails_is_not_seen(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), storage.table_writer(tmp_path / "a.parquet", TABLE.schema) as writer:
        writer.write_table(TABLE)
        raise RuntimeError
    assert storage.files(tmp_path) == []


def test_listings_are_sorted_and_leave_out_drafts_notes_and_folders(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet", ".a.tmp.parquet", "_notes.parquet", "c.json"):
        (tmp_path / name).touch()
    (tmp_path / "folder.parquet").mkdir()
    assert [path.name for path in storage.files(tmp_path, ".parquet")] == ["a.parquet", "b.parquet"]
    assert [path.name for path in storage.files(tmp_path)] == ["a.parquet", "b.parquet", "c.json"]
    assert storage.files(tmp_path / "none") == []


def test_a_fresh_folder_is_empty_and_what_is_gone_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "file").touch()
    assert list(storage.fresh(tmp_path / "a").iterdir()) == []
    storage.remove(tmp_path / "a")
    storage.remove(tmp_path / "a")
    assert not storage.exists(tmp_path / "a")


def test_rows_are_read_in_the_order_of_the_files_and_absent_columns_are_null(tmp_path: Path) -> None:
    storage.write_table(tmp_path / "2.parquet", TABLE.slice(0, 1))
    storage.write_table(tmp_path / "1.parquet", TABLE.slice(1).drop_columns(["text"]))
    schema = pa.schema([("n", pa.int64()), ("text", pa.string()), ("more", pa.float64())])
    found = storage.read_table(tmp_path, schema=schema).to_pylist()
    assert [row["n"] for row in found] == [2, 3, 1]
    assert [row["text"] for row in found] == [None, None, "a"]
    assert storage.read_table(tmp_path, ["n"], pc.field("n") > 1, schema)["n"].to_pylist() == [2, 3]
    batches = storage.read_batches(tmp_path, ["n"], pc.field("n") > 1, schema)
    assert [n for batch in batches for n in batch["n"].to_pylist()] == [2, 3]
    with pytest.raises(UserError, match="no parquet files"):
        storage.read_table(tmp_path / "none")


def test_a_folder_of_no_rows_still_has_columns(tmp_path: Path) -> None:
    storage.write_rows(tmp_path, iter(()), TABLE.schema)
    assert storage.folder_schema(tmp_path) == TABLE.schema
    assert storage.row_count(tmp_path) == 0
    assert storage.column_sum(tmp_path, ["n"]) == 0


def test_rows_and_columns_are_counted(tmp_path: Path) -> None:
    storage.write_rows(tmp_path, TABLE.to_batches(), TABLE.schema)
    storage.write_table(tmp_path / "more.parquet", TABLE)
    assert storage.row_count(tmp_path) == 6
    assert storage.column_sum(tmp_path, ["n"]) == 12
    assert storage.column_sum(tmp_path, []) == 0


def test_half_written_file_is_not_counted(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 half")
    assert storage.row_count(tmp_path) == 3
    assert storage.row_count(tmp_path / "none") == 0


def test_input_without_parquet_or_with_a_corrupt_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no parquet files"):
        storage.folder_schema(tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"b\.parquet: not a readable parquet file"):
        storage.folder_schema(tmp_path)


@settings(deadline=None, max_examples=25)
@given(st.binary(min_size=1, max_size=200), st.data())
def test_a_digest_sees_every_byte(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("digest")
    at = data.draw(st.integers(0, len(content) - 1))
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    for name, value in (("a", content), ("same", content), ("other", changed)):
        (folder / name).write_bytes(value)
    assert storage.content_digest(folder / "a") == storage.content_digest(folder / "same")
    assert storage.content_digest(folder / "a") != storage.content_digest(folder / "other")


def test_a_folder_s_digest_sees_names_and_depth_but_no_hidden_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a").write_text("x")
    before = storage.content_digest(tmp_path)
    (tmp_path / ".cache").write_text("x")
    assert storage.content_digest(tmp_path) == before
    (tmp_path / "sub" / "a").rename(tmp_path / "a")
    assert storage.content_digest(tmp_path) != before
    with pytest.raises(UserError, match="no such file or folder"):
        storage.content_digest(tmp_path / "none")


def test_scratch_is_where_the_environment_says_and_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENSELENE_SCRATCH", str(tmp_path))
    with storage.scratch() as folder:
        assert folder.parent == tmp_path
        (folder / "x").touch()
    assert list(tmp_path.iterdir()) == []


def test_what_a_library_writes_for_its_owner_alone_can_be_read_like_the_rest(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with storage.local_folder(tmp_path / "model") as folder:
            (folder / "deep").mkdir()
            for name in ("weights", "deep/script"):
                (folder / name).touch()
                (folder / name).chmod(0o700 if "script" in name else 0o600)
    finally:
        os.umask(before)
    modes = [(tmp_path / "model" / name).stat().st_mode & 0o777 for name in ("weights", "deep/script")]
    assert modes == [0o640, 0o740]


def test_batches_written_in_order_are_read_in_order_from_files_of_bounded_size(tmp_path: Path) -> None:
    schema = pa.schema([("n", pa.int64())])
    batches = [pa.record_batch([[2 * n, 2 * n + 1]], schema=schema) for n in range(6)]
    storage.write_ordered(tmp_path / "some", batches, schema, most=3)
    assert [pq.read_metadata(path).num_rows for path in storage.files(tmp_path / "some")] == [4, 4, 4]
    assert storage.read_table(tmp_path / "some")["n"].to_pylist() == list(range(12))
    storage.write_ordered(tmp_path / "none", [], schema)
    assert storage.read_table(tmp_path / "none").schema == schema
