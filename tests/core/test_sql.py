"""DuckDB sees run data by name."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.core import sql, storage


def test_a_file_and_a_folder_are_tables_by_their_names(tmp_path: Path) -> None:
    storage.write_table(tmp_path / "many" / "a.parquet", pa.table({"n": [1, 2]}))
    storage.write_table(tmp_path / "many" / "b.parquet", pa.table({"n": [3]}))
    storage.write_table(tmp_path / "one.parquet", pa.table({"n": [2]}))
    with sql.connect("100MB", many=tmp_path / "many", one=tmp_path / "one.parquet") as connection:
        found = connection.execute("select n from many where n not in (select n from one) order by n").fetchall()
    assert found == [(1,), (3,)]


def test_what_spills_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENSELENE_SCRATCH", str(tmp_path))
    with sql.connect() as connection:
        assert str(tmp_path) in connection.execute("select current_setting('temp_directory')").fetchone()[0]
    assert list(tmp_path.iterdir()) == []


def test_quotes_in_a_text_are_doubled() -> None:
    assert sql.quoted("it's") == "'it''s'"
