"""What a worker learns from the notes of those that died before it; real processes die in tests/integration."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.core import job_metrics
from pipelines.core import journal as module
from pipelines.core.errors import SegmentStopped, UserError
from pipelines.core.journal import ALONE, FRUITLESS, TOGETHER, Journal, Worker
from pipelines.core.records import Row
from pipelines.core.storage import place, stores
from tests.counted import Counted

SCHEMA = pa.schema([("row_id", pa.string()), ("n", pa.int64()), ("status", pa.string())])


class Died(BaseException):
    """In the place of the end of a process."""


@pytest.fixture(autouse=True)
def in_an_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    def exit_(code: int) -> None:
        raise Died

    monkeypatch.setattr(module, "_actor_id", lambda: "actor")
    monkeypatch.setattr(module.os, "_exit", exit_)


def rows(*numbers: int) -> list[Row]:
    return [{"row_id": f"r{n}", "n": n, "status": "ok"} for n in numbers]


def life(journal: Journal, made: list[Row], kills: set[int], killed: bool = False) -> list[list[int]] | None:
    """What one process does of a batch, part by part; None where it died."""
    worker, done = Worker(journal, ["stage"], actor=True), list[list[int]]()
    if worker.gave_up:
        return []
    try:
        for part in worker.parts(made, pa.Table.from_pylist(made, SCHEMA)):
            with worker.at(part):
                if kills & {row["n"] for row in part.rows}:
                    raise Died if killed else RuntimeError("CUDA error")
                done.append([row["n"] for row in part.rows])
    except Died:
        return None
    return done


def lives(journal: Journal, numbers: list[int], kills: set[int], killed: bool = False) -> tuple[int, Any, list[Row]]:
    """Processes that died under a batch before one finished it; what that one did; the rows."""
    for deaths in range(50):
        made = rows(*numbers)
        if (done := life(journal, made, kills, killed)) is not None:
            return deaths, done, made
    raise AssertionError("it never ends")


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("at", [0, 2])
def test_a_row_that_ends_processes_becomes_an_error_row_and_its_neighbours_are_done(
    tmp_path: Path, at: int, killed: bool
) -> None:
    deaths, done, made = lives(Journal(tmp_path), [0, 1, 2, 3], {at}, killed)
    assert deaths == TOGETHER + ALONE
    assert [row["n"] for row in made if row["status"] == "ok"] == [n for n in range(4) if n != at]
    assert [n for part in done for n in part] == [n for n in range(4) if n != at]
    why = "2 times, without an exception" if killed else "RuntimeError: CUDA error"
    assert made[at]["status"].startswith(f"error:stage:killed_its_process:{why}")


def test_rows_begun_again_are_counted_as_waste(tmp_path: Path, counted: Counted) -> None:
    lives(Journal(tmp_path), [0, 1, 2, 3], set())
    assert counted.all(job_metrics.REPEATED) == 0
    lives(Journal(tmp_path), [0, 1, 2, 3], {2}, killed=True)
    # All four a second time, then row 2 alone, which had ended one process by itself.
    assert counted.of(job_metrics.REPEATED, stage="light") == 4 + 1


def test_several_such_rows_are_all_found(tmp_path: Path) -> None:
    _, _, made = lives(Journal(tmp_path), list(range(8)), {1, 5, 6})
    assert [row["n"] for row in made if row["status"] != "ok"] == [1, 5, 6]


def test_an_actor_that_finishes_nothing_is_at_fault_and_its_rows_are_not(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    deaths, done, made = lives(journal, [0, 1, 2, 3], {0, 1, 2, 3})
    assert (deaths, done) == (FRUITLESS, [])
    assert all(row["status"] == "ok" for row in made)
    assert "RuntimeError: CUDA error" in journal.notes("gave_up")[0].read_text()
    assert not journal.at_work(but="another")  # what it died under is in nobody's hands
    # Another, which is well, does them at its first try.
    module._actor_id = lambda: "well"  # type: ignore[assignment]
    assert lives(journal, [0, 1, 2, 3], set())[:2] == (0, [[0, 1, 2, 3]])


def test_a_row_alone_in_its_batch_is_blamed_once_the_process_has_proved_itself_with_another(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    lives(journal, [7], set())
    deaths, done, made = lives(journal, [0], {0})
    assert (deaths, done) == (TOGETHER + ALONE, [[7]])
    assert made[0]["status"].startswith("error:stage:killed_its_process")


def test_a_fault_that_passes_costs_no_row(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for _ in range(TOGETHER - 1):
        assert life(journal, rows(0, 1), {1}) is None
    made = rows(0, 1)
    assert life(journal, made, set()) == [[0, 1]]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["proof.parquet"]


def test_a_batch_costs_four_requests_in_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(Journal(place(f"memory://unit/{uuid.uuid4().hex}")), ["stage"], actor=True)
    asked: list[object] = []
    patiently = stores.patiently

    def noted(call: Any, where: object) -> Any:
        asked.append(where)
        return patiently(call, where)

    monkeypatch.setattr(stores, "patiently", noted)
    for first in (0, 2, 4):
        asked.clear()
        made = rows(first, first + 1)
        for part in worker.parts(made, pa.Table.from_pylist(made, SCHEMA)):
            with worker.at(part):
                pass
    assert len(asked) == 4, asked  # whether to stop; earlier notes; its own note, and that taken back


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The nodes that are there; processes run on the last one."""
    there = ["node-0"]
    monkeypatch.setattr(module, "_live_nodes", lambda: set(there))
    monkeypatch.setattr(module, "_node_id", lambda: there[-1])
    return there


def test_rows_whose_nodes_are_lost_again_and_again_are_not_blamed(tmp_path: Path, nodes: list[str]) -> None:
    journal = Journal(tmp_path)
    for n in range(module.MANY - 1):
        assert life(journal, rows(0, 1), {0}, killed=True) is None
        nodes[:] = [f"node-{n + 1}"]
    made = rows(0, 1)
    assert life(journal, made, set()) == [[0, 1]]  # together, and by the same actor
    assert [row["status"] for row in made] == ["ok", "ok"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["proof.parquet"]


def test_a_row_that_loses_many_nodes_is_blamed(tmp_path: Path, nodes: list[str]) -> None:
    journal = Journal(tmp_path)
    life(journal, rows(7), set())
    for n in range(100):
        made = rows(0, 1)
        if life(journal, made, {0}, killed=True) is not None:
            break
        nodes[:] = [f"node-{n + 1}"]
    assert made[0]["status"].startswith("error:stage:killed_its_process") and made[1]["status"] == "ok"


def test_a_task_waits_until_it_is_known_which_nodes_are_gone(
    tmp_path: Path, nodes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, now = Journal(tmp_path), [0.0]
    monkeypatch.setattr(module, "_actor_id", lambda: "")

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] > 5:
            nodes[:] = nodes[-1:]

    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", sleep)

    def task() -> tuple[bool, str]:
        made, worker = rows(0), Worker(journal, ["stage"])
        try:
            for part in worker.parts(made, pa.Table.from_pylist(made, SCHEMA)):
                with worker.at(part):
                    raise Died
        except Died:
            return False, str(made[0]["status"])
        return True, str(made[0]["status"])

    for n in range(TOGETHER + ALONE):  # each on a node that is lost, which the cluster has not noticed
        assert task() == (False, "ok")
        nodes.append(f"node-{n + 1}")
    assert task() == (False, "ok") and 5 < now[0] < module.NOTICED
    for _ in range(TOGETHER + ALONE):  # and now on one that is not
        over, status = task()
    assert over and status.startswith("error:stage:killed_its_process")


def test_a_user_s_mistake_ends_no_process(tmp_path: Path) -> None:
    worker = Worker(Journal(tmp_path), ["stage"], actor=True)
    (part,) = worker.parts(rows(0), pa.Table.from_pylist(rows(0), SCHEMA))
    with pytest.raises(UserError), worker.at(part):
        raise UserError("no good")


def test_a_first_failure_to_set_up_may_be_the_config_s_and_a_device_s_is_tried_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    Worker(journal, ["stage"], actor=True).setup_failed(ValueError("no such argument"))  # let through
    journal.clear()
    worker = Worker(journal, ["stage"], actor=True)
    with pytest.raises(Died):
        worker.setup_failed(RuntimeError("CUDA error: out of order"))
    with pytest.raises(Died):  # it is the second time
        Worker(journal, ["stage"], actor=True).setup_failed(ValueError("no such argument"))


def test_a_node_that_does_not_see_the_run_s_folder_ends_the_job_before_it_writes_anything(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not see this folder"):
        life(Journal(tmp_path / "work" / "journal"), rows(0), set())
    assert not list(tmp_path.iterdir())


def test_workers_stop_before_their_next_rows(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.stop("enough")
    with pytest.raises(SegmentStopped, match="enough"):
        life(journal, rows(0), set())


def test_rows_are_held_back_while_others_have_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, now = Journal(tmp_path), [0.0]
    worker = Worker(journal, ["stage"], actor=True)
    note = tmp_path / "together" / "key.another.1"
    note.parent.mkdir()
    note.touch()

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] >= 10:
            note.unlink(missing_ok=True)

    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "sleep", sleep)
    worker.hold()
    assert 10 <= now[0] <= 10 + module.QUIET + 2 * module.POLL
    before = now[0]
    worker.hold()  # nobody works: the others are given back at once
    assert now[0] == before


def test_without_a_journal_nothing_is_noted() -> None:
    worker, made = Worker(None, ["stage"], actor=True), rows(0, 1)
    made[1]["status"] = "filtered:x"
    (part,) = worker.parts(made, pa.Table.from_pylist(made, SCHEMA))
    assert part.rows == made[:1]
    with pytest.raises(KeyError), worker.at(part):
        raise KeyError
