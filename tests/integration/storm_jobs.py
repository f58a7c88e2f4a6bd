"""The jobs that the chaos tests disturb, each a process of its own: storm_jobs JOB FOLDER ADDRESS.

Their models are STAND-INS that wait a fixed time; stages, segments, journal, commits and lock are the real ones.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.core.determinism import digest
from pipelines.core.errors import RowFailure
from pipelines.core.placement import Placement
from pipelines.core.records import Row
from pipelines.core.segment import Rows, Segment
from pipelines.core.stage import Filter, PooledStage, Stage
from pipelines.engines.llm.ask import Ask
from pipelines.engines.llm.steps import PromptStep, StepStage

from .faults import note

BLOCK = 8
LATENCY_S = 0.4  # of a stand-in, per batch


def begun(notes: Path | None, stage: str, rows: list[Row]) -> None:
    """Note that a stage has begun some rows, so that what is done twice can be counted."""
    if notes:
        note(notes / stage, [row["row_id"] for row in rows])


def number(row: Row) -> int:
    """Of a row of `faults.examples`."""
    return int(row["instruction"].split()[-3])


class Seventh(Filter):
    """Turns every seventh row away."""

    name = "seventh"
    reads = ("instruction",)

    def reason(self, row: Row) -> str | None:
        return "seventh" if number(row) % 7 == 0 else None


class Scored(PooledStage):
    """In place of a reward model."""

    name = "scored"
    reads = ("instruction",)
    adds = (pa.field("score", pa.int64()),)
    num_cpus = 0.5
    actors = (1, 2)
    rows_per_batch = BLOCK

    def __init__(self, notes: Path | None) -> None:
        self.notes = notes

    def apply_batch(self, rows: list[Row]) -> None:
        begun(self.notes, self.name, rows)
        time.sleep(LATENCY_S)
        for row in rows:
            row["score"] = number(row) ** 2


class Argue(PromptStep):
    """In place of a critique: waits as long as an engine would, and cannot do every eleventh row."""

    name = "argue"
    reads = ("instruction",)
    adds = (pa.field("argued", pa.string()),)

    def __init__(self, notes: Path | None) -> None:
        self.notes = notes

    async def run(self, row: Row, ask: Ask) -> None:
        begun(self.notes, self.name, [row])
        await asyncio.sleep(LATENCY_S)
        if number(row) % 11 == 0:
            raise RowFailure("eleventh")
        row["argued"] = digest(row["instruction"])


class Engine(StepStage):
    """Several blocks at once in an asynchronous actor, as an engine has them."""

    num_cpus = 0.5
    actors = (1, 3)
    rows_per_batch = BLOCK
    blocks_at_once = 2

    def connect(self) -> Any:
        return object()


class Length(Stage):
    """A light stage behind the pools."""

    name = "length"
    reads = ("argued",)
    adds = (pa.field("length", pa.int64()),)

    def apply(self, row: Row) -> None:
        row["length"] = len(row["argued"])


def curation(notes: Path | None) -> Segment:
    """Light, pooled, asked, light: as the segments of a curation are."""
    stages = [Seventh(), Scored(notes), Engine("engine", [Argue(notes)]), Length()]
    return Segment("curation", stages, rows_per_block=BLOCK)


def curate(folder: Path) -> None:
    """FOLDER/in -> FOLDER/work/curation."""
    curation(folder / "notes").run(folder / "work", Rows(folder / "in", ""))


ROLE = "openselene/role"


def curate_by_role(folder: Path) -> None:
    """The same, on nodes by role, as `cluster.yaml` has them."""
    from pipelines.core.cluster import place_readers

    place_readers({ROLE: "reader"})
    segment = curation(folder / "notes")
    for stage in segment.stages:
        if isinstance(stage, PooledStage):
            stage.placement, stage.num_cpus = Placement(labels={ROLE: "engine"}), 1.0
    segment.run(folder / "work", Rows(folder / "in", ""))


JOBS = {"curate": curate, "curate_by_role": curate_by_role}


def main(job: str, folder: str, address: str) -> None:
    """Run one job, or what is left of it, on a cluster."""
    import ray

    from pipelines.core.cluster import RayConfig, connect
    from pipelines.core.lock import held

    from . import faults

    connect(RayConfig(address=address))
    for module in (sys.modules[__name__], faults):  # workers need not be able to import these files
        ray.cloudpickle.register_pickle_by_value(module)
    with held(Path(folder) / "lock"):
        JOBS[job](Path(folder))


if __name__ == "__main__":
    from tests.integration import storm_jobs  # under its own name: classes of __main__ would be others

    storm_jobs.main(*sys.argv[1:])
