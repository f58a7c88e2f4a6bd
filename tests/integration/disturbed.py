"""Whole jobs in a storm, and what it has cost them: rows lost, rows doubled, work done again."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.core import storage
from pipelines.core.segment import Rows, ledger_of

from .faults import calls, examples
from .storm import Storm
from .storm_jobs import curation


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
    with storm.raging(cluster):
        command = ["-m", "tests.integration.storm_jobs", "curate", str(folder), cluster.address]
        storm.drive(command, folder / "log", limit)
    return settled(folder, storm.kills)


def settled(folder: Path, kills: Counter[str] | None = None) -> Outcome:
    """What became of a curation of `storm_jobs`, against what its rows must be."""
    source, written = storage.read_table(folder / "in"), folder / "work" / "curation" / "rows"
    outcome = compared(storage.read_table(written).to_pylist(), curated(source.to_pylist()), "row_id")
    entry = ledger_of(Rows(written, ""))["s"]
    assert entry["in"] == source.num_rows == entry["ok"] + entry["filtered"] + entry["error"]
    return Outcome(**outcome, **work_again(folder / "notes"), kills=kills or Counter())


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
