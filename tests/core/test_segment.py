"""What a segment does around its Ray plan; the plan itself runs in tests/integration."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import UserError
from pipelines.core.records import EXAMPLE
from pipelines.core.segment import Segment, claim, folder_schema, write_empty, written


def segment(tmp_path: Path, **depends: object) -> Segment:
    return Segment("s", tmp_path / "work", tmp_path / "in", [], depends)


def test_finished_segment_is_not_run_again(tmp_path: Path) -> None:
    first = segment(tmp_path, lr=1)
    assert not first.finished()
    (first.folder / "done.json").write_text(json.dumps({"rows": 7, "ledger": {"a": {"in": 7}}}))
    # There is no input folder: running anything would fail.
    assert segment(tmp_path, lr=1).run() == {"a": {"in": 7}}


def test_folder_of_another_config_is_refused_and_the_key_named(tmp_path: Path) -> None:
    segment(tmp_path, lr=1, seed=0).finished()
    with pytest.raises(UserError, match=r"changed: lr\).*choose another out_dir"):
        segment(tmp_path, lr=2, seed=0).finished()


def test_claim_of_the_same_config_is_repeatable(tmp_path: Path) -> None:
    claim(tmp_path, "f", {"a": 1})
    claim(tmp_path, "f", {"a": 1})


def test_half_written_file_is_not_counted(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": [1, 2, 3]}), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 half")
    assert written(tmp_path) == 3
    assert written(tmp_path / "none") == 0


def test_input_without_parquet_or_with_a_corrupt_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no parquet files"):
        folder_schema(tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"b\.parquet: not a readable parquet file"):
        folder_schema(tmp_path)


def test_input_without_rows_gives_output_with_columns(tmp_path: Path) -> None:
    write_empty(tmp_path / "in", EXAMPLE)
    done = segment(tmp_path)
    assert done.run() == {}
    assert folder_schema(done.rows) == EXAMPLE
