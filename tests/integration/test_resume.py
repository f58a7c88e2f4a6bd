"""A job killed with SIGKILL in mid-synthesis: every row once, finished rows untouched, the same content."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.dataset as pads
import pytest

from pipelines.core.determinism import digest
from pipelines.core.storage import row_count

from .conftest import LOCAL, ROOT

BLOCK = 8
ARGUMENTS = [
    "--config",
    str(LOCAL),
    "ray.dashboard=false",
    "curation.sources=[sample_pairwise]",
    "curation.sample_per_source=48",
    f"curation.rows_per_block={BLOCK}",
    "curation.reward.enabled=false",
    "curation.critique.max_tokens=24",
    "curation.critique.engine.dtype=float32",
    f"curation.critique.engine.batch_size={BLOCK}",
    "curation.critique.engine.concurrent_batches=1",
]


def start(out: Path) -> subprocess.Popen[bytes]:
    log = (out.parent / f"{out.name}.log").open("ab")
    return subprocess.Popen(
        [sys.executable, str(ROOT / "ray_jobs" / "curate.py"), *ARGUMENTS, f"out_dir={out}"],
        cwd=ROOT,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def kill_when_half_done(process: subprocess.Popen[bytes], rows: Path) -> int:
    """SIGKILL the driver once a block is written; returns the rows that were safe by then."""
    deadline = time.monotonic() + 400
    while row_count(rows) < BLOCK:
        assert process.poll() is None, "the job ended before it could be killed"
        assert time.monotonic() < deadline, "no block was written"
        time.sleep(0.05)
    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    for member in family[1:]:  # Ray's reaper ends them too; the test does not wait for it
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    return row_count(rows)


def contents(out: Path) -> dict[str, str]:
    table = pads.dataset([pads.dataset(out / "curated" / part) for part in ("data", "quarantine")]).to_table()
    return {row["raw_id"]: digest(row) for row in table.to_pylist()}


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_job_resumes_to_the_same_content(tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert start(undisturbed).wait(timeout=600) == 0

    rows = killed / "work" / "synthesize" / "rows"
    safe = kill_when_half_done(start(killed), rows)
    total = row_count(undisturbed / "work" / "synthesize" / "rows")
    assert BLOCK <= safe < total, "the kill must come in the middle"
    before = {path: path.stat().st_mtime_ns for path in rows.glob("*.parquet")}

    assert start(killed).wait(timeout=600) == 0
    log = (tmp_path / "killed.log").read_text()
    assert "already written" in log
    # Files of finished blocks are untouched, but for one that was not committed when the kill came.
    lost = [path for path, stamp in before.items() if not path.exists() or path.stat().st_mtime_ns != stamp]
    assert len(lost) <= 1
    assert contents(killed) == contents(undisturbed)
