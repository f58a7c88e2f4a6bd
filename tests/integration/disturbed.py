"""Whole jobs in a storm, and what it has cost them: rows lost, rows doubled, work done again."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipelines.core import storage
from pipelines.core.segment import Rows, ledger_of

from .faults import calls, examples
from .storm import CALM, Storm
from .storm_jobs import curation

JOBS = ("-m", "tests.integration.storm_jobs")


@dataclass(frozen=True)
class Outcome:
    """What a storm has cost one job.

    Attributes:
        rows: that there must be.
        lost: those that are not there.
        differ: those that are not as they would be without a storm.
        doubled: those that are there more often than once.
        begun: rows that its stages began, those that they began again included.
        again: of them, those that were begun before.
        kills: of nodes and drivers.
    """

    rows: int
    lost: int
    differ: int
    doubled: int
    begun: int = 0
    again: int = 0
    kills: Counter[str] = field(default_factory=Counter)

    @property
    def unharmed(self) -> bool:
        """Whether it ended as it would have without a storm."""
        return not (self.lost or self.differ or self.doubled)


def compared(found: list[dict[str, Any]], wanted: list[dict[str, Any]], key: str) -> dict[str, int]:
    """Rows by an id, as they are and as they must be: `rows`, `lost`, `differ`, `doubled`."""
    times = Counter(row[key] for row in found)
    there = {row[key]: row for row in found}
    return {
        "rows": len(wanted),
        "lost": sum(row[key] not in there for row in wanted),
        "differ": sum(there.get(row[key], row) != row for row in wanted) + len(there.keys() - {r[key] for r in wanted}),
        "doubled": sum(count - 1 for count in times.values()),
    }


def work_again(notes: Path) -> dict[str, int]:
    """Rows begun, and begun again, by all stages that left notes: `begun`, `again`."""
    begun = again = 0
    for stage in notes.iterdir():
        times = Counter(row for call in calls(stage) for row in call.ids)
        begun += times.total()
        again += times.total() - len(times)
    return {"begun": begun, "again": again}


def curate(storm: Storm, cluster: Any, folder: Path, rows: int, limit: float = 400.0) -> Outcome:
    """A segment as a curation has them, its driver killed too. The rows are known without running it.

    Raises:
        AssertionError: the job failed by itself.
    """
    examples(folder / "in", rows)
    storm.disturb(cluster, [*JOBS, "curate", str(folder), cluster.address], folder / "log", limit)
    return settled(folder, storm.kills)


def settled(folder: Path, kills: Counter[str] | None = None) -> Outcome:
    """What became of a curation of `storm_jobs`, against what its rows must be."""
    source, written = storage.read_table(folder / "in"), folder / "work" / "curation" / "rows"
    outcome = compared(storage.read_table(written).to_pylist(), curated(source.to_pylist()), "row_id")
    entry = ledger_of(Rows(written, ""))["s"]
    assert entry["in"] == source.num_rows == entry["ok"] + entry["filtered"] + entry["error"]
    return Outcome(**outcome, **work_again(folder / "notes"), kills=kills or Counter())


def benchmark(storm: Storm, cluster: Any, folder: Path, limit: float = 400.0) -> Outcome:
    """The benchmark job: every judgment and every figure against those of a run without a storm.

    Raises:
        AssertionError: the job failed by itself.
    """
    calm, wild = folder / "calm", folder / "wild"
    for own in (calm, wild):
        own.mkdir()
    for own, weather in ((calm, replace(storm, every=CALM, lives=None)), (wild, storm)):
        weather.disturb(cluster, [*JOBS, "benchmark", str(own), cluster.address], own / "log", limit)
    found, wanted = (
        storage.read_table(own / "run" / "benchmark" / "judgments" / "base.parquet").to_pylist() for own in (wild, calm)
    )
    figures = [storage.read_json(own / "run" / "benchmark" / "results.json") for own in (wild, calm)]
    assert figures[0] == figures[1]
    return Outcome(**compared(found, wanted, "judgment_id"), **work_again(wild / "notes"), kills=storm.kills)


def training(storm: Storm, cluster: Any, folder: Path, limit: float = 400.0) -> Outcome:
    """An elastic training: its steps against those of a run without a storm, and every weight within rounding.

    A step here is a row of the outcome; `again` are those that the log shows to have been rewound.

    Raises:
        AssertionError: the job failed by itself, or a weight differs.
    """
    from safetensors.torch import load_file

    from tests.training.tiny import pair_rows, write_model, write_pairs

    calm, wild = folder / "calm", folder / "wild"
    for own in (calm, wild):
        write_model(own / "base")
        write_pairs(own / "pairs", pair_rows(48), group=20)
    with rewound(wild / "run" / "train" / "metrics.jsonl") as again:
        for own, weather in ((calm, replace(storm, every=CALM, lives=None)), (wild, storm)):
            weather.disturb(cluster, [*JOBS, "training", str(own), cluster.address], own / "log", limit)
    ours, theirs = (load_file(own / "run" / "model" / "model.safetensors") for own in (wild, calm))
    apart = max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)
    print(f"weights differ by at most {apart:.1e}")
    assert ours.keys() == theirs.keys() and apart < WEIGHTS_APART
    found, wanted = (steps_of(own / "run" / "train" / "metrics.jsonl") for own in (wild, calm))
    outcome = compared([{"step": step} for step in found], [{"step": step} for step in wanted], "step")
    return Outcome(**outcome, begun=len(found) + sum(again), again=sum(again), kills=storm.kills)


WEIGHTS_APART = 1e-4  # of float32 weights: sums over one worker and over two round differently, step after step


def steps_of(log: Path) -> list[int]:
    """The steps that a training's log has lines of."""
    return [json.loads(line)["step"] for line in log.read_text().splitlines()] if log.exists() else []


@contextmanager
def rewound(log: Path) -> Iterator[list[int]]:
    """How many steps were taken back each time, as the log shows while the block runs."""
    over, again = threading.Event(), list[int]()

    def watch() -> None:
        last = 0
        while not over.wait(0.2):
            try:
                now = max(steps_of(log), default=0)
            except ValueError:  # a line that is being written
                continue
            if now < last:
                again.append(last - now)
            last = now

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield again
    finally:
        over.set()
        thread.join()


def curated(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the stages make of rows, without Ray."""
    from pipelines.core.stage import apply_stage
    from pipelines.engines.llm.steps import StepStage

    stages = curation(None).stages
    blank = {field.name: None for stage in stages for field in stage.adds}
    made = [{**row, **blank} for row in rows]
    for stage in stages:
        live = [row for row in made if row["status"] == "ok"]
        if isinstance(stage, StepStage):
            stage.apply_batch(live)
        else:
            apply_stage(stage, live)
    return made
