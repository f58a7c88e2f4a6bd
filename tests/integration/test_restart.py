"""Exceptions in workers on a real Ray: what ends a process, what ends the job, and what the driver is told."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from pipelines.config import load_config
from pipelines.core import ledger, segment, storage
from pipelines.core.cluster import connect
from pipelines.core.errors import RowFailure, TooManyErrors, UserError, WorkersFailed
from pipelines.core.journal import ALONE, FRUITLESS, TOGETHER
from pipelines.core.records import Row
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


KILL = Exception("SIGKILL")


class Trouble:
    """Raises an exception so many times, counted by files: they outlive a process.

    Args:
        notes: a folder for the process of each time.
        error: what to raise; KILL ends the process without a word, as a segmentation fault or lack of memory does.
        times: how often.
        at: the row it comes with.
    """

    def __init__(self, notes: Path, error: Exception, times: int, at: str = "row-0006") -> None:
        self.notes, self.error, self.times, self.at = notes, error, times, at
        notes.mkdir()

    def strike(self, rows: list[Row]) -> None:
        """Raise, if the row is among these and it is not over."""
        if any(row["row_id"] == self.at for row in rows) and len(self.pids()) < self.times:
            (self.notes / f"{len(self.pids()):03d}").write_text(str(os.getpid()))
            if self.error is KILL:
                os.kill(os.getpid(), signal.SIGKILL)
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
@pytest.mark.parametrize("error", [KILL, RuntimeError("CUDA error: device-side assert")], ids=["killed", "raised"])
def test_a_row_that_ends_its_process_again_and_again_is_quarantined_and_the_job_goes_on(
    tmp_path: Path, kind: Any, error: Exception
) -> None:
    trouble = Trouble(tmp_path / "notes", error, times=1000)
    found = run(tmp_path, kind(trouble))
    assert [row["row_id"] for row in found] == [f"row-{n:04d}" for n in range(COUNT)]
    assert [row["row_id"] for row in found if row["status"] != "ok"] == ["row-0006"]
    assert found[6]["status"].startswith(f"error:{kind.__name__.lower()}:killed_its_process:")
    assert ("RuntimeError: CUDA error" in found[6]["status"]) is (error is not KILL)
    assert all(row["seen"] == len(row["instruction"]) for row in found if row["status"] == "ok")
    assert len(set(trouble.pids())) == len(trouble.pids()) == TOGETHER + ALONE
    assert not (tmp_path / "work" / "s" / "journal").exists()


def test_a_row_that_kills_a_task_of_a_light_stage_is_quarantined(tmp_path: Path) -> None:
    trouble = Trouble(tmp_path / "notes", KILL, times=1000)
    found = run(tmp_path, Light(trouble))
    assert [row["row_id"] for row in found] == [f"row-{n:04d}" for n in range(COUNT)]
    assert [row["row_id"] for row in found if row["status"] != "ok"] == ["row-0006"]
    assert found[6]["status"].startswith(
        "error:light:killed_its_process:4 times" if ALONE == 4 else "error:light:killed"
    )


def test_a_killer_alone_in_its_batch_is_told_from_a_process_that_can_do_nothing(tmp_path: Path) -> None:
    class One(Pooled):
        rows_per_batch = 1

    trouble = Trouble(tmp_path / "notes", KILL, times=1000)
    found = run(tmp_path, One(trouble))
    assert [row["row_id"] for row in found if row["status"] != "ok"] == ["row-0006"]


class Sick(Pooled):
    """In a pool of four, of which one is broken for good, however often its process is started anew."""

    name = "pooled"
    actors = (4, 4)
    num_cpus = 0.25

    def apply_batch(self, rows: list[Row]) -> None:
        import ray

        actor = ray.get_runtime_context().get_actor_id()
        chosen = self.trouble.notes / "chosen"
        if not any(self.trouble.notes.iterdir()):
            chosen.write_text(actor)
        if chosen.read_text() == actor:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        time.sleep(0.2)
        mark(rows)


def test_a_sick_actor_of_four_loses_no_row_and_takes_none_from_the_others(tmp_path: Path) -> None:
    source = examples(tmp_path / "in", 40 * BLOCK)
    sick = Sick(Trouble(tmp_path / "notes", RuntimeError(), times=0))
    rows = Segment("s", [sick], rows_per_block=BLOCK).run(tmp_path / "work", Rows(source, "")).folder
    found = storage.read_table(rows).sort_by("row_id").to_pylist()
    assert [row["row_id"] for row in found] == [f"row-{n:04d}" for n in range(40 * BLOCK)]
    assert all(row["status"] == "ok" and row["seen"] == len(row["instruction"]) for row in found)


class Holding(Pooled):
    """Holds CPUs as an engine holds GPUs, in processes that it notes."""

    actors = (2, 2)
    num_cpus = 1.0

    def apply_batch(self, rows: list[Row]) -> None:
        (self.trouble.notes / str(os.getpid())).touch()
        mark(rows)


def test_a_finished_segment_holds_no_actor(tmp_path: Path) -> None:
    import ray

    notes = tmp_path / "notes"
    assert len(run(tmp_path, Holding(Trouble(notes, RuntimeError(), times=0)))) == COUNT
    left = processes = {int(note.name) for note in notes.iterdir()}
    assert processes and os.getpid() not in processes
    deadline = time.monotonic() + 20
    while (left or free() < ray.cluster_resources()["CPU"]) and time.monotonic() < deadline:
        left = {pid for pid in processes if psutil.pid_exists(pid)}
        time.sleep(0.1)
    assert not left
    assert free() == ray.cluster_resources()["CPU"]


def free() -> float:
    import ray

    return float(ray.available_resources().get("CPU", 0))


def test_where_every_process_fails_the_job_ends_with_the_reason_and_no_row_is_blamed(tmp_path: Path) -> None:
    class Broken(Pooled):
        actors = (2, 2)

        def apply_batch(self, rows: list[Row]) -> None:
            raise RuntimeError("CUDA error: no device")

    with pytest.raises(WorkersFailed, match=r"'s': no worker of 'pooled' finishes anything.*RuntimeError: CUDA error"):
        run(tmp_path, Broken(Trouble(tmp_path / "notes", RuntimeError(), times=0)))
    assert written(tmp_path) == []


def test_a_device_that_fails_while_the_stage_is_set_up_is_tried_again(tmp_path: Path) -> None:
    class Late(Pooled):
        def setup(self) -> None:
            self.trouble.strike([{"row_id": self.trouble.at}])

    trouble = Trouble(tmp_path / "notes", RuntimeError("CUDA error: busy"), times=FRUITLESS - 1)
    found = run(tmp_path, Late(trouble))
    assert all(row["status"] == "ok" for row in found) and len(found) == COUNT


def test_too_many_errors_end_a_segment_while_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Pooled):
        def apply_batch(self, rows: list[Row]) -> None:
            time.sleep(0.1)
            raise RowFailure("unlucky", "so many")

    monkeypatch.setattr(ledger, "ENOUGH", 2 * BLOCK)
    plain = segment.watch
    monkeypatch.setattr(segment, "watch", lambda *arguments: plain(*arguments, interval=0.1))
    source = examples(tmp_path / "in", 100 * BLOCK)
    failing = Segment("s", [Failing(Trouble(tmp_path / "notes", RuntimeError(), times=0))], rows_per_block=BLOCK)
    said = (
        r"rows of 400 so far ended as errors \(error:pooled:unlucky \d+\); one in full: 'error:pooled:unlucky:so many'"
    )
    for _ in range(2):  # the second finds enough of them at once
        with pytest.raises(TooManyErrors, match=said):
            Segment(**{**vars(failing), "max_error_share": 0.5}).run(tmp_path / "work", Rows(source, ""))
    assert 0 < len(written(tmp_path)) < 100 * BLOCK


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
