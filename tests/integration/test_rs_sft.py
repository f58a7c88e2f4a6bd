"""Recipe rs_sft on real engines: two rounds of the embedded model, killed while it samples, and resumed to the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.config import Config
from pipelines.core import storage
from pipelines.core.ledger import count_rows, count_status
from pipelines.core.step import result_of
from pipelines.core.storage import row_count
from pipelines.judging.parse import parse
from pipelines.training.rounds import SEGMENT, round_of

from .conftest import LOCAL, ROOT

pytestmark = pytest.mark.slow
BLOCK = 8
SAMPLES = 6


def start(out: Path) -> subprocess.Popen[bytes]:
    arguments = [
        f"out_dir={out}",
        "ray.dashboard=false",
        "train.recipe=rs_sft",
        "train.epochs=1",
        f"train.own_critiques={{rounds: 2, samples: {SAMPLES}, max_tokens: 48, rows_per_block: {BLOCK}}}",
        # Prompts of all rows at once are more tokens than an engine takes in one step.
        f"train.own_critiques.engine={{max_model_len: 1024, batch_size: {BLOCK}, concurrent_batches: 4}}",
    ]
    log = (out.parent / f"{out.name}.log").open("ab")
    return subprocess.Popen(
        [sys.executable, str(ROOT / "ray_jobs" / "train.py"), "--config", str(LOCAL), *arguments],
        cwd=ROOT,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def kill_when_a_block_is_written(process: subprocess.Popen[bytes], rows: Path) -> int:
    """SIGKILL the driver; returns the rows that were safe by then."""
    deadline = time.monotonic() + 300
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


def sampled(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["row_id"]: row for row in storage.read_table(folder / "rows").to_pylist()}


def test_two_rounds_are_killed_and_resumed(finished_run: Config, tmp_path: Path) -> None:
    run = finished_run.run
    out = tmp_path / "own"
    shutil.copytree(Path(str(run.curated)), out / "curated", ignore=shutil.ignore_patterns("reference"))
    own = Config.model_validate({"out_dir": out, "evaluation": {"benchmarks": []}}).run
    first, second = (round_of(own, number) for number in (1, 2))
    folder = Path(str(first.work / SEGMENT))
    safe = kill_when_a_block_is_written(start(out), folder / "rows")
    before = sampled(folder)
    assert BLOCK <= safe < row_count(run.pairs)

    assert start(out).wait(timeout=500) == 0, (tmp_path / "own.log").read_text()[-3000:]
    for this in (first, second):
        place = Path(str(this.work / SEGMENT))
        assert count_rows(place / "rows", "row_id") == count_rows(Path(str(run.pairs)), "row_id")
        ledger = (result_of(place) or {})["ledger"]
        assert {name: sum(found.values()) for name, found in count_status(place / "rows").items()} == {
            name: entry["in"] for name, entry in ledger.items()
        }
        assert {reason for entry in ledger.values() for reason in entry["reasons"]} <= {
            "filtered:no_right_critique",
            "filtered:too_many_tokens",
        }
    # What was written before the kill is as it was.
    after = sampled(folder)
    assert (result_of(folder) or {})["resumed_from"] >= len(before) >= BLOCK
    assert before.items() <= after.items()

    # Rows that are trained on say the label in the template's form, and were written by the model itself.
    for this in (first, second):
        rows = sampled(Path(str(this.work / SEGMENT)))
        kept = storage.read_table(this.pairs).to_pylist()
        assert kept and all(row["rejected"] is None for row in kept)
        for row in kept:
            source = rows[row["row_id"]]
            assert parse(row["chosen"], source["allowed"]).verdict == source["verdict"]
            own_words = source["own_completions"] if source["format"] == "cot" else [source["chosen"]]
            assert row["chosen"] in own_words and row["prompt"] == source["prompt"]
        asked = [row["own_asked"] for row in rows.values() if row["format"] == "cot"]
        assert any(row["own_right"] for row in rows.values()) and max(asked) <= SAMPLES
    # The second round asks the first one's model, which was trained on what that round kept.
    models = [json.loads((Path(str(one.training)) / "depends.json").read_text())["depends"] for one in (first, own)]
    assert models[0]["model"] == models[1]["model"] and models[0]["made_from"] != models[1]["made_from"]
    assert Path(str(own.model), "model.safetensors").exists() and Path(str(first.model), "model.safetensors").exists()
    steps = [json.loads(line) for line in Path(str(own.training_log)).read_text().splitlines()]
    assert steps[-1]["step"] == steps[-1]["steps"]
    assert all(step["loss"] == pytest.approx(step["loss_nll"], rel=1e-3) for step in steps)

    # Once more: nothing is left to do.
    written = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    assert start(out).wait(timeout=200) == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == written
