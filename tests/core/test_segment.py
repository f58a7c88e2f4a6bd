"""What a segment does around its Ray plan; the plan itself runs in tests/integration."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import job_metrics, step, storage
from pipelines.core.commits import CHECKPOINT
from pipelines.core.errors import LedgerError, TooManyErrors, UserError
from pipelines.core.records import EXAMPLE, Row
from pipelines.core.segment import LIGHT, ROWS, Rows, Segment, ledger_of
from pipelines.core.stage import PooledStage, Stage
from pipelines.core.storage import Place
from tests.counted import Counted


class Setting(Stage):
    """Depends on a value, and notes where its rows come from."""

    name = "setting"
    reads = ("source",)
    adds = (pa.field("more", pa.string()),)

    def __init__(self, value: int) -> None:
        self.value = value
        self.seen: Place | None = None

    def depends(self) -> dict[str, int]:
        return {"value": self.value}

    def open(self, source: Place) -> None:
        self.seen = source

    def apply(self, row: Row) -> None:
        row["more"] = "x"


def segment(value: int = 1) -> Segment:
    return Segment("s", [Setting(value)])


def written(tmp_path: Path, *statuses: str, share: float = 1.0) -> tuple[Segment, Rows]:
    """A segment all of whose rows are written, and its input: only counting is left to do."""
    ids = [str(n) for n in range(len(statuses))]
    columns = {"row_id": ids, "source": ["a"] * len(ids)}
    for folder, found in ((tmp_path / "in", ["ok"] * len(ids)), (tmp_path / "work" / "s" / ROWS, list(statuses))):
        folder.mkdir(parents=True)
        pq.write_table(pa.table({**columns, "status": found, "tokens": [2] * len(ids)}), folder / "job_0-0.parquet")
    commit(tmp_path / "work" / "s", "job_0", ids)
    return Segment("s", [], max_error_share=share, token_columns=["tokens"]), Rows(tmp_path / "in", "before")


def commit(folder: Path, stem: str, ids: list[str]) -> None:
    """The ids of some rows, as Ray notes them."""
    (folder / CHECKPOINT).mkdir(exist_ok=True)
    pq.write_table(pa.table({"row_id": ids}), folder / CHECKPOINT / f"{stem}.parquet")


def test_finished_segment_is_not_run_again(tmp_path: Path) -> None:
    # There is no input folder: running anything would fail.
    before = Rows(tmp_path / "none", "before")
    step.once(tmp_path / "s", segment().depends(before), lambda folder: {"rows": 7, "ledger": {"a": {"in": 7}}})
    rows = segment().run(tmp_path, before)
    assert rows.folder == tmp_path / "s" / ROWS
    assert ledger_of(rows) == {"a": {"in": 7}}


def test_reading_and_writing_take_a_whole_cpu_but_beside_a_pool() -> None:
    """With less, more processes load a tokenizer and share the CPUs; with more, pools that have grown starve them."""

    class Pooled(PooledStage):
        name = "pooled"
        reads = ("source",)
        adds = ()

        def depends(self) -> dict[str, int]:
            return {}

        def apply_batch(self, rows: list[Row]) -> None:
            pass

    assert segment().cpus == 1 and Segment("s", [Setting(1), Pooled()]).cpus == LIGHT < 1


def test_a_stage_s_setting_and_what_came_before_are_what_a_segment_depends_on(tmp_path: Path) -> None:
    before = Rows(tmp_path, "before")
    step.once(tmp_path / "s", segment(1).depends(before), lambda folder: {"rows": 0})
    assert segment(1).finished(tmp_path, before)
    with pytest.raises(UserError, match=r"changed: setting\)"):
        segment(2).finished(tmp_path, before)
    with pytest.raises(UserError, match=r"changed: before\)"):
        segment(1).finished(tmp_path, Rows(tmp_path, "other"))


def test_the_next_segment_depends_on_this_one(tmp_path: Path) -> None:
    done, before = written(tmp_path, "ok")
    rows = done.run(tmp_path / "work", before)
    assert rows.fingerprint == step.fingerprint(done.depends(before)) != before.fingerprint


def test_stages_are_told_where_the_rows_come_from(tmp_path: Path) -> None:
    storage.write_empty(tmp_path / "in", EXAMPLE)
    stage = Setting(1)
    Segment("s", [stage]).run(tmp_path, Rows(tmp_path / "in", ""))
    assert stage.seen == tmp_path / "in"


def test_input_without_rows_gives_output_with_columns(tmp_path: Path) -> None:
    storage.write_empty(tmp_path / "in", EXAMPLE)
    rows = segment().run(tmp_path, Rows(tmp_path / "in", ""))
    assert storage.folder_schema(rows.folder).names == [*EXAMPLE.names, "more"]
    assert ledger_of(rows) == {}


def test_the_marker_has_rows_tokens_and_a_balanced_ledger(tmp_path: Path) -> None:
    done, before = written(tmp_path, "ok", "filtered:x", "error:y")
    result = step.result_of(done.run(tmp_path / "work", before).folder.parent)
    assert result is not None
    assert (result["rows"], result["resumed_from"], result["tokens"]) == (3, 3, 6)
    assert result["ledger"]["a"] == {
        "in": 3,
        "ok": 1,
        "filtered": 1,
        "error": 1,
        "reasons": {"error:y": 1, "filtered:x": 1},
    }


def test_rows_that_were_there_are_not_counted_again_and_the_step_s_progress_is(
    tmp_path: Path, counted: Counted
) -> None:
    done, before = written(tmp_path, "ok", "filtered:x", "error:y")
    done.run(tmp_path / "work", before)
    assert counted.all(job_metrics.ROWS) == 0
    assert counted.all(job_metrics.STEP_ROWS) == 6  # 3 of 3


def test_rows_that_come_are_counted_by_what_became_of_them(
    tmp_path: Path, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the place of the Ray plan, one file that is written: five rows were there already."""
    done, before = written(tmp_path, *["ok"] * 5)
    columns = {"source": ["a"] * 3, "status": ["ok"] * 3, "tokens": [2] * 3}
    pq.write_table(pa.table({"row_id": ["x", "y", "z"], **columns}), tmp_path / "in" / "1.parquet")

    def stream(self: Segment, folder: Path, *_: Any) -> None:
        late = columns | {"status": ["ok", "filtered:x", "error:y"]}
        pq.write_table(pa.table({"row_id": ["x", "y", "z"], **late}), folder / ROWS / "job_1-0.parquet")
        commit(folder, "job_1", ["x", "y", "z"])

    monkeypatch.setattr(Segment, "_stream", stream)
    segment = replace(done, name="judge-base")
    (tmp_path / "work" / "s").rename(tmp_path / "work" / "judge-base")
    segment.run(tmp_path / "work", before)
    found = {
        status: counted.of(job_metrics.ROWS, step="judge", status=status) for status in ("ok", "filtered", "error")
    }
    assert found == {"ok": 1, "filtered": 1, "error": 1}
    assert counted.of(job_metrics.STEP_ROWS, step="judge", which="done") == 8


def test_too_many_errors_end_the_segment_without_a_marker(tmp_path: Path) -> None:
    done, before = written(tmp_path, "ok", "error:y", share=0.4)
    with pytest.raises(TooManyErrors):
        done.run(tmp_path / "work", before)
    assert step.result_of(tmp_path / "work" / "s") is None


def test_a_row_written_twice_ends_the_segment(tmp_path: Path) -> None:
    done, before = written(tmp_path, "ok")
    rows = tmp_path / "work" / "s" / ROWS
    (rows / "job_1-0.parquet").write_bytes((rows / "job_0-0.parquet").read_bytes())
    commit(rows.parent, "job_1", ["0"])
    with pytest.raises(LedgerError, match="2 rows but 1 distinct"):
        done.run(tmp_path / "work", before)


def test_a_row_that_workers_of_a_killed_job_wrote_late_is_there_once(tmp_path: Path) -> None:
    done, before = written(tmp_path, "ok", "ok")
    rows = tmp_path / "work" / "s" / ROWS
    (rows / "old_0-0.parquet").write_bytes((rows / "job_0-0.parquet").read_bytes())
    commit(rows.parent, "old_0", ["0", "1"])
    found = done.run(tmp_path / "work", before)
    assert storage.read_table(found.folder)["row_id"].to_pylist() == ["0", "1"]
