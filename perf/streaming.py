"""One plan for reward and generator, or a segment each: time, and what a kill costs.

The models are STAND-INS: actors that wait a fixed time a row and note it. All else is the real segment, with its
blocks, its checkpoint and its ledger. The two ways are run undisturbed, in turn; then each is killed (SIGKILL, all its
processes) once the generator has done half of the rows, and resumed. Wasted rows are those that were done again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
from rounds import add_rounds, compared, interleaved

from pipelines.config import load_config
from pipelines.core import cluster
from pipelines.core.records import Row
from pipelines.core.segment import Rows, Segment
from pipelines.core.stage import PooledStage, Stage

CONFIG = Path(__file__).parent.parent / "ray_jobs" / "configs" / "local.yaml"
BLOCK = 16
WAIT = {"reward": 0.01, "generator": 0.04}  # seconds a row: 1 to 4, as `openselene plan --config h100` has them


class StandIn(PooledStage):
    """Waits as a model would, and notes when. Not a model.

    Args:
        name: which model.
        notes: a folder.
    """

    reads = ("row_id",)
    num_cpus = 0.1
    actors = (2, 2)
    rows_per_batch = BLOCK

    def __init__(self, name: str, notes: Path) -> None:
        self.name, self.notes = name, notes
        self.adds = (pa.field(name, pa.float64()),)

    def apply_batch(self, rows: list[Row]) -> None:
        """Wait for the rows."""
        time.sleep(len(rows) * WAIT[self.name])
        for row in rows:
            row[self.name] = 0.5
        with (self.notes / f"{self.name}-{os.getpid()}.jsonl").open("a") as file:
            file.write(json.dumps([time.time(), len(rows)]) + "\n")


class Passed(Stage):
    """Stands for the light stages between two models."""

    name = "passed"
    reads = ("reward",)

    def apply(self, row: Row) -> None:
        """Look at the score."""
        assert row["reward"] is not None


def work(way: str, folder: Path) -> dict[str, Any]:
    """Run one way, or what is left of it."""
    notes = folder / "notes"
    notes.mkdir(exist_ok=True)
    cluster.connect(load_config(CONFIG, ["ray.dashboard=false"]).ray)
    reward, generator = StandIn("reward", notes), StandIn("generator", notes)
    plans = {
        "apart": [
            Segment("score", [reward], rows_per_block=BLOCK),
            Segment("write", [Passed(), generator], rows_per_block=BLOCK),
        ],
        "one": [Segment("both", [reward, Passed(), generator], rows_per_block=BLOCK)],
    }
    held = Held(notes)
    threading.Thread(target=held.watch, daemon=True).start()
    rows, start = Rows(folder / "in", ""), time.monotonic()
    for segment in plans[way]:
        rows = segment.run(folder / "work", rows)
    seconds = time.monotonic() - start
    return {"seconds": round(seconds, 1), "reward_held_s": held.seconds()}


class Held:
    """How long the processes of the reward model stay after their last row."""

    def __init__(self, notes: Path) -> None:
        self.notes, self.gone = notes, dict[Path, float]()

    def watch(self) -> None:
        """Look ten times a second."""
        while True:
            for note in self.notes.glob("reward-*.jsonl"):
                if note not in self.gone and not psutil.pid_exists(int(note.stem.partition("-")[2])):
                    self.gone[note] = time.time()
            time.sleep(0.1)

    def seconds(self) -> float:
        """The longest of them until now."""
        ends = {note: json.loads(note.read_text().splitlines()[-1])[0] for note in self.notes.glob("reward-*.jsonl")}
        return round(max(self.gone.get(note, time.time()) - end for note, end in ends.items()), 1)


def done(folder: Path, name: str) -> int:
    """Rows that a stand-in has done, those done again included."""
    notes = (folder / "notes").glob(f"{name}-*.jsonl")
    return sum(json.loads(line)[1] for note in notes for line in note.read_text().splitlines() if line.endswith("]"))


def start(way: str, folder: Path) -> subprocess.Popen[str]:
    """Run one way in a process of its own."""
    command = [sys.executable, __file__, "--child", way, "--folder", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What it prints last."""
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    found: dict[str, Any] = json.loads([line for line in printed.splitlines() if line.startswith("{")][-1])
    return found


def kill(process: subprocess.Popen[str]) -> None:
    """End a run as a lost machine does."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.communicate()


def measure(way: str, rows: int, folder: Path, killed: bool = False) -> dict[str, Any]:
    """One way on rows of its own; or killed and resumed."""
    (folder / "in").mkdir(parents=True)
    ids = [f"row-{number:05d}" for number in range(rows)]
    columns = {"row_id": ids, "source": ["made_up"] * rows, "status": ["ok"] * rows}
    pq.write_table(pa.table(columns), folder / "in" / "rows.parquet")
    process = start(way, folder)
    if killed:
        while done(folder, "generator") < rows / 2:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.05)
        kill(process)
        process = start(way, folder)
    found = {**result(process), "wasted": {stage: done(folder, stage) - rows for stage in WAIT}}
    print(way, "killed" if killed else "undisturbed", found, flush=True)
    return found


def main() -> None:
    """Run both ways; print the result as JSON on the last line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=384)
    add_rounds(parser)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(work(options.child, options.folder)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder, numbers = Path(name), iter(range(1000))

        def timed(way: str) -> dict[str, Any]:
            return measure(way, options.rows, folder / f"{way}-{next(numbers)}")

        found = interleaved({way: partial(timed, way) for way in ("apart", "one")}, options.rounds)
        killed = {way: measure(way, options.rows, folder / f"{way}-killed", killed=True) for way in ("apart", "one")}
    seconds = {way: [run["seconds"] for run in runs] for way, runs in found.items()}
    print(
        json.dumps(
            {
                "name": "streaming",
                **compared(seconds["apart"], seconds["one"], less_is_better=True),
                "unit": "s; ours: a segment each, baseline: one plan",
                "rows": options.rows,
                "runs": found,
                "killed": killed,
                "models": "stand-ins",
            }
        )
    )


if __name__ == "__main__":
    main()
