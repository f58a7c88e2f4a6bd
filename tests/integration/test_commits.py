"""`kill -9` right before and after every commit of a segment: the next run gives the rows of an undisturbed one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import load_config
from pipelines.core import storage
from pipelines.core.cluster import connect
from pipelines.core.segment import Rows, ledger_of

from . import faults
from .conftest import LOCAL, ROOT
from .faults import BLOCK, examples

# A job in a process of its own, on the cluster of the tests. Of the functions that commit, in the driver or in Ray's
# workers, the one that is named ends driver and worker at its second call (the first of those that are called once).
JOB = """
import os, signal, sys
from pathlib import Path

source, work, notes, when, what, address = sys.argv[1:]
driver = os.getpid()

def end():
    os.kill(driver, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)

def struck(times):
    calls = Path(notes)
    (calls / f"{os.getpid()}-{len(list(calls.iterdir()))}").touch()
    return len(list(calls.iterdir())) >= times

def ending(plain, times, only=lambda *arguments: True):
    def call(*arguments, **named):
        chosen = only(*arguments) and struck(times)
        if chosen and when == "before":
            end()
        result = plain(*arguments, **named)
        if chosen:
            end()
        return result
    return call

def hook():
    from ray.data.checkpoint.checkpoint_writer import BatchBasedCheckpointWriter as Writer
    if hasattr(Writer, what):
        setattr(Writer, what, ending(getattr(Writer, what), 2))

import ray
from pipelines.core import storage
from pipelines.core.cluster import configure_data
from pipelines.core.segment import Rows
from tests.integration.test_commits import segment

storage.write_json = ending(storage.write_json, 1, lambda place, value: place.name == what)
ray.init(address=address, logging_level="ERROR", log_to_driver=False, runtime_env={"worker_process_setup_hook": hook})
configure_data()
segment().run(Path(work), Rows(Path(source), ""))
"""
CALLS = ("depends.json", "write_pending_checkpoint", "commit_checkpoint", "done.json")


def segment() -> Any:
    """Eight blocks through an actor and a task; every fifth row fails."""
    import pyarrow as pa

    from pipelines.core.determinism import digest
    from pipelines.core.errors import RowFailure
    from pipelines.core.segment import Segment
    from pipelines.core.stage import PooledStage, Stage

    class Hashed(PooledStage):
        name = "hashed"
        reads = ("instruction",)
        adds = (pa.field("hashed", pa.string()),)
        rows_per_batch = BLOCK
        num_cpus = 0.5

        def apply_batch(self, rows: list[Any]) -> None:
            for row in rows:
                row["hashed"] = digest(row["instruction"])

    class Fifth(Stage):
        name = "fifth"
        reads = ("instruction",)

        def apply(self, row: Any) -> None:
            if int(row["instruction"].split()[-3]) % 5 == 0:
                raise RowFailure("fifth")

    return Segment("s", [Hashed(), Fifth()], rows_per_block=BLOCK)


@pytest.fixture(scope="module", autouse=True)
def cluster(own_ray: None) -> Iterator[str]:
    """A cluster that outlives the jobs, whose workers need not import this file."""
    import ray

    for module in (sys.modules[__name__], faults):
        ray.cloudpickle.register_pickle_by_value(module)
    ray.shutdown()
    connect(load_config(LOCAL, ["ray.dashboard=false"]).ray)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of eight blocks."""
    return examples(tmp_path_factory.mktemp("rows") / "in", 8 * BLOCK)


@pytest.fixture(scope="module")
def undisturbed(cluster: str, source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """The rows and the ledger of a run without a fault."""
    return finish(source, tmp_path_factory.mktemp("undisturbed"))


def finish(source: Path, work: Path) -> tuple[Any, Any]:
    """Run the segment, or what is left of it: its rows in order, and its ledger."""
    rows = segment().run(work, Rows(source, ""))
    return storage.read_table(rows.folder).sort_by("row_id").to_pylist(), ledger_of(rows)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", CALLS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_a_commit_gives_the_undisturbed_rows(
    cluster: str, source: Path, undisturbed: tuple[Any, Any], tmp_path: Path, when: str, what: str
) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    arguments = [str(source), str(tmp_path / "work"), str(notes), when, what, cluster]
    done = subprocess.run(
        [sys.executable, "-c", JOB, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == -9, done.stderr
    assert finish(source, tmp_path / "work") == undisturbed
    assert len(undisturbed[0]) == 8 * BLOCK and any(row["status"] != "ok" for row in undisturbed[0])
