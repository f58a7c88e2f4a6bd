"""What the parts of a job count: each row once, whatever was there before, under bounded names."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.core import job_metrics, storage
from pipelines.core.counts import Written, count_entry, stage_of, step_of, time_left
from pipelines.core.ledger import Tally
from tests.counted import Counted


@pytest.mark.parametrize(
    ("name", "label"),
    [("mix", "mix"), ("judge-base", "judge"), ("judge-gpt.formats", "judge"), ("check-base", "check"), ("own", "own")],
)
def test_a_user_s_name_is_no_label(name: str, label: str) -> None:
    assert step_of(name) == label


@pytest.mark.parametrize(
    ("name", "label"), [("reward", "reward"), ("clean + contrast", "light"), ("critique-check", "light")]
)
def test_stages_without_a_model_are_light(name: str, label: str) -> None:
    assert stage_of(name) == label


def test_rows_count_once_as_they_come(counted: Counted) -> None:
    written = Written("mix")
    written.now({"ok": 2, "filtered:a": 1}, 10)
    written.now({"ok": 5, "filtered:a": 1, "filtered:b": 1, "error:x:y": 1, "": 1}, 10)
    assert counted.of(job_metrics.ROWS, step="mix", status="ok") == 5
    assert counted.of(job_metrics.ROWS, step="mix", status="filtered") == 2
    assert counted.of(job_metrics.ROWS, step="mix", status="error") == 2
    assert counted.of(job_metrics.STEP_ROWS, step="mix", which="done") == 9
    assert counted.of(job_metrics.STEP_ROWS, step="mix", which="all") == 10


def test_rows_of_an_earlier_run_count_no_more(counted: Counted) -> None:
    written = Written("mix", {"ok": 40, "filtered:a": 2})
    written.now({"ok": 50, "filtered:a": 2}, 60)
    assert counted.of(job_metrics.ROWS, step="mix", status="ok") == 10
    assert counted.of(job_metrics.ROWS, step="mix", status="filtered") == 0
    assert counted.of(job_metrics.STEP_ROWS, step="mix", which="done") == 52


def test_rows_that_are_taken_back_and_written_again_count_once(counted: Counted) -> None:
    written = Written("mix")
    for ok in (10, 4, 10, 12):
        written.now({"ok": ok})
    assert counted.all(job_metrics.ROWS) == 12


def test_a_step_that_writes_all_at_once_counts_its_ledger(counted: Counted) -> None:
    source = {"in": 6, "ok": 3, "filtered": 2, "error": 1, "reasons": {}}
    count_entry("ingest", {"a": source, "b": source})  # type: ignore[dict-item]
    assert counted.of(job_metrics.ROWS, step="ingest", status="ok") == 6
    assert counted.of(job_metrics.ROWS, step="ingest", status="error") == 2


def test_time_left_is_a_gauge_of_the_step(counted: Counted) -> None:
    time_left("judge-base", 90)
    assert counted.of(job_metrics.ETA, step="judge") == 90


def test_a_tally_looks_at_each_file_once(tmp_path: Path) -> None:
    storage.write_table(tmp_path / "a.parquet", pa.table({"status": ["ok", "ok", None]}))
    tally = Tally("s", tmp_path, 1.0)
    assert tally.look() == {"ok": 2, "error:no_status": 1}
    storage.write_table(tmp_path / "b.parquet", pa.table({"status": ["filtered:x"]}))
    assert tally.look() == {"ok": 2, "error:no_status": 1, "filtered:x": 1}
    assert tally.look()["ok"] == 2
