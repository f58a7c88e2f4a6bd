"""What a round hands to its training: a row for each completion kept, pairs that are held out, and the tally."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.training.kept import keep, templates_in
from pipelines.training.own_critiques import COUNTS
from pipelines.training.pairs import is_held_out

HELD = next(f"g{i}" for i in range(100) if is_held_out(f"g{i}", 0.3, 0))
FREE = next(f"g{i}" for i in range(100) if not is_held_out(f"g{i}", 0.3, 0))


def sampled(row_id: str, own: list[str], **changes: Any) -> dict[str, Any]:
    right = len(own)
    return {
        "row_id": row_id,
        "group_id": FREE,
        "source": "colours",
        "format": "cot",
        "status": "ok",
        "prompt": f"prompt {row_id}",
        "chosen": "chosen",
        "rejected": "rejected",
        "own_completions": own,
        **dict(zip(COUNTS, (4, right, 40, 30, 20, 0), strict=True)),
        **changes,
    }


NOT_ASKED = dict.fromkeys(COUNTS, 0)


def rows_of(folder: Path, *rows: dict[str, Any]) -> Rows:
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(list(rows)), folder / "a.parquet")
    return Rows(folder, "sampled")


def test_every_kept_completion_is_a_row_and_the_tally_counts_all_rows(tmp_path: Path) -> None:
    given = rows_of(
        tmp_path / "rows",
        sampled("one", ["mine", "mine too"]),
        sampled("two", [], status="filtered:no_right_critique"),
        sampled("alone", [], format="judgment_only", source="animals", **NOT_ASKED),
        sampled("held", [], group_id=HELD, **NOT_ASKED),
        sampled("broken", [], status="error:own_critiques:x", own_completions=None, **dict.fromkeys(COUNTS)),
    )
    run = Run(tmp_path / "round")
    result = keep(given, run, 0.3)
    found = {row["row_id"]: row for row in storage.read_table(run.pairs).to_pylist()}
    assert {name: (row["chosen"], row["rejected"]) for name, row in found.items()} == {
        "one": ("mine", None),
        "one-1": ("mine too", None),
        "alone": ("chosen", None),
        "held": ("chosen", "rejected"),
    }
    assert found["one-1"]["group_id"] == FREE and found["one-1"]["prompt"] == "prompt one"
    colours = {"rows": 4, "judgments_alone": 0, "held_out": 1, "asked_about": 3, "with_a_right_answer": 1}
    assert result["sources"]["colours"] == {**colours, **dict(zip(COUNTS, (8, 2, 80, 60, 40, 0), strict=True))}
    assert result["sources"]["animals"]["judgments_alone"] == 1 and result["rows"] == 4


def test_rows_without_a_group_are_one_each(tmp_path: Path) -> None:
    held = next(f"r{i}" for i in range(100) if is_held_out(f"r{i}", 0.3, 0))
    given = rows_of(tmp_path / "rows", *(sampled(held, [], group_id=None, **NOT_ASKED), sampled("x", ["a", "b"])))
    keep(given, Run(tmp_path / "round"), 0.3)
    found = storage.read_table(tmp_path / "round" / "curated" / "data").to_pylist()
    assert [(row["row_id"], row["group_id"], row["rejected"]) for row in found] == [
        (held, held, "rejected"),
        ("x", FREE, None),
        ("x-1", FREE, None),
    ]


def test_it_is_done_once_and_other_rows_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, run = rows_of(tmp_path / "rows", sampled("one", ["mine"])), Run(tmp_path / "round")
    first = keep(given, run, 0.0)
    assert "colours: 1 of 1 rows have a right critique of the judge's own (1 of 4 answers" in capsys.readouterr().err
    (file,) = (run.pairs).glob("*.parquet")
    written = file.stat().st_mtime_ns
    assert keep(given, run, 0.0) == first and file.stat().st_mtime_ns == written
    with pytest.raises(UserError, match="changed: sampled"):
        keep(Rows(given.folder, "others"), run, 0.0)


def test_templates_are_named_once(tmp_path: Path) -> None:
    rows = [{"template": name} for name in ("b", "a", None, "b")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    assert templates_in(tmp_path) == ("a", "b")
