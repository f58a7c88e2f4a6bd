"""Exceptions in workers on a real Ray: what ends a process, what ends the job, and what the driver is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.config import load_config
from pipelines.core import storage
from pipelines.core.cluster import connect
from pipelines.core.errors import RowFailure, UserError
from pipelines.core.records import Row
from pipelines.core.restart import RETRIES
from pipelines.core.segment import Rows, Segment
from pipelines.core.stage import PooledStage, Stage
from pipelines.engines.llm.ask import Ask
from pipelines.engines.llm.steps import PromptStep, StepStage

from . import faults
from .conftest import LOCAL
from .faults import BLOCK, examples

SEEN = pa.field("seen", pa.int64())
COUNT = 5 * BLOCK


@pytest.fixture(scope="module", autouse=True)
def own_cluster(own_ray: None) -> Iterator[None]:
    """Ended afterwards: a plan that failed keeps its actors, and their CPUs, as long as its exception is known."""
    import ray

    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def local_ray(own_cluster: None) -> None:
    """The local cluster of the other integration tests, whose workers cannot import these files."""
    import ray

    for module in (sys.modules[__name__], faults):
        ray.cloudpickle.register_pickle_by_value(module)
    connect(load_config(LOCAL, ["ray.dashboard=false"]).ray)


class Trouble:
    """Raises an exception so many times, counted by files: they outlive a process.

    Args:
        notes: a folder for the process of each time.
        error: what to raise.
        times: how often.
        at: the row it comes with.
    """

    def __init__(self, notes: Path, error: Exception, times: int, at: str = "row-0006") -> None:
        self.notes, self.error, self.times, self.at = notes, error, times, at
        notes.mkdir()

    def strike(self, rows: list[Row]) -> None:
        """Raise, if the row is among these and it is not over."""
        if any(row["row_id"] == self.at for row in rows) and len(self.pids()) < self.times:
            (self.notes / f"{len(self.pids())}").write_text(str(os.getpid()))
            raise self.error

    def pids(self) -> list[int]:
        """The processes it came to."""
        return [int(path.read_text()) for path in sorted(self.notes.iterdir())]


def mark(rows: list[Row]) -> None:
    for row in rows:
        row["seen"] = len(row["instruction"])


class Pooled(PooledStage):
    name = "pooled"
    reads = ("instruction",)
    adds = (SEEN,)
    rows_per_batch = BLOCK

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble

    def apply_batch(self, rows: list[Row]) -> None:
        self.trouble.strike(rows)
        mark(rows)


class Light(Stage):
    name = "light"
    reads = ("instruction",)
    adds = (SEEN,)

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble

    def apply(self, row: Row) -> None:
        self.trouble.strike([row])
        mark([row])


class Step(PromptStep):
    name = "step"
    reads = ("instruction",)
    adds = (SEEN,)

    def __init__(self, trouble: Trouble) -> None:
        self.trouble = trouble

    async def run(self, row: Row, ask: Ask) -> None:
        self.trouble.strike([row])
        mark([row])


class Asking(StepStage):
    """Several batches at once in an asynchronous actor, as an engine has them."""

    blocks_at_once = 3
    rows_per_batch = BLOCK

    def __init__(self, trouble: Trouble) -> None:
        super().__init__("asking", [Step(trouble)])

    def connect(self) -> Any:
        return object()


def run(tmp_path: Path, stage: Stage) -> list[Row]:
    """The rows that a segment of one stage writes."""
    source = examples(tmp_path / "in", COUNT)
    segment = Segment("s", [stage], rows_per_block=BLOCK)
    rows = segment.run(tmp_path / "work", Rows(source, "")).folder
    return storage.read_table(rows).sort_by("row_id").to_pylist()


def written(tmp_path: Path) -> list[Row]:
    """The rows that a run has committed before it was ended."""
    rows = tmp_path / "work" / "s" / "rows"
    return storage.read_table(rows).to_pylist() if storage.files(rows, ".parquet") else []


@pytest.mark.parametrize("kind", [Pooled, Asking])
def test_after_a_fault_a_fresh_process_does_the_batch_again_and_no_row_is_lost(tmp_path: Path, kind: Any) -> None:
    trouble = Trouble(tmp_path / "notes", RuntimeError("CUDA error"), times=2)
    found = run(tmp_path, kind(trouble))
    assert [row["row_id"] for row in found] == [f"row-{n:04d}" for n in range(COUNT)]
    assert all(row["status"] == "ok" and row["seen"] == len(row["instruction"]) for row in found)
    assert len(set(trouble.pids())) == 2


@pytest.mark.parametrize("kind", [Pooled, Asking])
def test_a_fault_that_comes_again_ends_the_job_with_its_traceback_and_is_no_row_s_error(
    tmp_path: Path, kind: Any
) -> None:
    trouble = Trouble(tmp_path / "notes", RuntimeError("a bug"), times=1000)
    with pytest.raises(RuntimeError, match="a bug") as caught:
        run(tmp_path, kind(trouble))
    assert "in strike" in str(caught.value)
    assert len(set(trouble.pids())) == len(trouble.pids()) == RETRIES + 1
    assert all(row["status"] == "ok" for row in written(tmp_path))


def test_an_exception_of_a_light_stage_ends_the_job(tmp_path: Path) -> None:
    trouble = Trouble(tmp_path / "notes", RuntimeError("a bug"), times=1000)
    with pytest.raises(RuntimeError, match="a bug"):
        run(tmp_path, Light(trouble))
    assert len(trouble.pids()) == 1
    assert all(row["status"] == "ok" for row in written(tmp_path))


@pytest.mark.parametrize("kind", [Pooled, Asking, Light])
def test_a_user_error_reaches_the_driver_as_it_is_and_at_once(tmp_path: Path, kind: Any) -> None:
    trouble = Trouble(tmp_path / "notes", UserError("no good", where="here", fix="mend it"), times=1000)
    with pytest.raises(UserError) as caught:
        run(tmp_path, kind(trouble))
    assert (caught.value.what, caught.value.where, caught.value.fix) == ("no good", "here", "mend it")
    assert len(trouble.pids()) == 1


@pytest.mark.parametrize("kind", [Pooled, Asking, Light])
def test_a_row_s_own_failure_costs_that_row_alone(tmp_path: Path, kind: Any) -> None:
    trouble = Trouble(tmp_path / "notes", RowFailure("unlucky", "number 6"), times=1000)
    found = run(tmp_path, kind(trouble))
    assert len(found) == COUNT
    assert [row["row_id"] for row in found if row["status"] != "ok"] == ["row-0006"]
    assert found[6]["status"].endswith(":unlucky:number 6")


def test_a_stage_that_cannot_be_set_up_says_so_in_one_line(tmp_path: Path) -> None:
    class Unset(Pooled):
        def setup(self) -> None:
            raise UserError("the model is broken", where="curation.reward.model")

    with pytest.raises(UserError, match=r"curation\.reward\.model: the model is broken"):
        run(tmp_path, Unset(Trouble(tmp_path / "notes", RuntimeError(), times=0)))
