"""The jobs that the chaos tests disturb, each a process of its own: storm_jobs JOB FOLDER ADDRESS.

Their models are STAND-INS that wait a fixed time; stages, segments, journal, commits and lock are the real ones.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from pipelines.core.determinism import choose, digest
from pipelines.core.errors import RowFailure
from pipelines.core.placement import Placement
from pipelines.core.records import Row
from pipelines.core.segment import Rows, Segment
from pipelines.core.stage import Filter, PooledStage, Stage
from pipelines.engines.llm.ask import Answer, Ask
from pipelines.engines.llm.steps import PromptStep, StepStage
from pipelines.engines.llm.vllm_stage import PromptStage

from .conftest import LOCAL
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


def training(folder: Path) -> None:
    """FOLDER/base and FOLDER/pairs -> FOLDER/run/model: elastic, one or two workers, a tiny model in float32."""
    from pipelines.core.run import Run
    from pipelines.training.config import TrainConfig
    from pipelines.training.train import train

    values: dict[str, Any] = {"model": str(folder / "base"), "batch_size": 4, "bin_tokens": 200, "max_length": 256}
    values |= {"learning_rate": 2e-3, "epochs": 40, "precision": "float32", "checkpoint_steps": 10, "trackers": []}
    values |= {"workers": 2, "min_workers": 1, "cpus_per_worker": 2, "max_failures": 1000}
    train(TrainConfig.model_validate(values), folder / "pairs", Run(folder / "run"))


class Asked(PromptStep):
    """Notes that a judgment is begun."""

    name = "asked"
    reads = ("judgment_id",)

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    async def run(self, row: Row, ask: Ask) -> None:
        note(self.notes / self.name, [row["judgment_id"]])


class StandInJudge(PromptStage):
    """Answers after a fixed time with a verdict that depends on the prompt alone. Not a model."""

    def connect(self) -> Ask:
        async def ask(prompt: str, **_: Any) -> Answer:
            await asyncio.sleep(LATENCY_S)
            verdicts = re.findall(r"\b(?:[A-Z]\w*|\d)\b", prompt.rpartition("Result: <")[2])
            text = f"Result: {choose(verdicts, 0, 'stand-in', prompt)}"
            return Answer(text=text, prompt_tokens=300, output_tokens=4, seconds=LATENCY_S)

        return cast("Ask", ask)


def benchmark(folder: Path) -> None:
    """The benchmark job of the packaged default, whole, with a stand-in for its engine -> FOLDER/run/benchmark."""
    from pipelines.config import load_config
    from pipelines.evaluation import job

    engine = "{engines: [1, 3], num_cpus: 0.5, batch_size: 4, concurrent_batches: 2, max_model_len: 1024}"
    settings = [f"out_dir={folder / 'run'}", "evaluation.rows_per_block=4", f"evaluation.engine={engine}"]
    config = load_config(LOCAL, settings)
    own = job.judge_segment

    def with_stand_in(*given: Any) -> Segment:
        segment = own(*given)
        (*before, stage) = segment.stages
        assert isinstance(stage, PromptStage)
        steps = [Asked(folder / "notes"), *stage.steps]
        return replace(segment, stages=[*before, StandInJudge("judge", stage.engine, steps)])

    job.judge_segment = with_stand_in
    job.evaluate(config.run, config.evaluation, config.train.model)


JOBS = {"curate": curate, "curate_by_role": curate_by_role, "training": training, "benchmark": benchmark}


def main(job: str, folder: str, address: str) -> None:
    """Run one job, or what is left of it, on a cluster."""
    import ray

    from pipelines.core.cluster import RayConfig, connect
    from pipelines.core.lock import held

    from . import faults

    connect(RayConfig(address=address), Path(folder))
    for module in (sys.modules[__name__], faults):  # workers need not be able to import these files
        ray.cloudpickle.register_pickle_by_value(module)
    with held(Path(folder) / "lock"):
        JOBS[job](Path(folder))


if __name__ == "__main__":
    from tests.integration import storm_jobs  # under its own name: classes of __main__ would be others

    storm_jobs.main(*sys.argv[1:])
