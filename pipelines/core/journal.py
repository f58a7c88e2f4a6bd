"""What the workers of a step have in hand, noted in the step's folder: it outlives a process that is killed.

Ray starts a worker that died anew and gives it the same rows again, for ever. The notes tell the new process what the
old ones died of. Rows that have ended `TOGETHER` processes are tried one by one; a row that has ended `ALONE` processes
by itself is the cause, and becomes an error row. An actor whose processes ended `FRUITLESS` times and finished nothing
in between is at fault itself, or its device is: it gives its rows back, and the segment has others do them.

A process that ended because its node is gone (a spot machine taken away) speaks against nobody: each note says on
which node it was left, and those of lost nodes do not count, unless there are `MANY`.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pipelines.core import counts, storage
from pipelines.core.determinism import digest
from pipelines.core.errors import RowFailure, SegmentStopped, UserError, unshared
from pipelines.core.nodes import NOTICED
from pipelines.core.nodes import live as _live_nodes
from pipelines.core.nodes import own as _node_id
from pipelines.core.records import OK, Row, failure
from pipelines.core.storage import Place

TOGETHER = 2
ALONE = 2
FRUITLESS = 4
MANY = 12  # nodes lost under the same rows: too many for chance
POLL, QUIET, LONGEST = 0.5, 2.0, 300.0  # seconds: between looks, without work of others, and at most, of holding back
# How an accelerator says that it is broken.
DEVICE_ERRORS = ("CUDA error", "CUDA driver error", "HIP error", "NCCL error", "uncorrectable ECC")


@dataclass(frozen=True)
class Journal:
    """The notes of one step.

    Attributes:
        folder: the journal's own.
    """

    folder: Place

    def clear(self) -> None:
        """Forget the workers of an earlier run."""
        storage.remove(self.folder)

    def stop(self, why: str) -> None:
        """Let every worker end before its next rows."""
        storage.write_text(self.folder / "stop", why)

    def stopped(self) -> str | None:
        """Why the workers are to end, if they are."""
        note = self.folder / "stop"
        return storage.read_text(note) if storage.exists(note) else None

    def notes(self, kind: str, key: str = "") -> list[Place]:
        """The notes of one kind that begin with a key."""
        return [path for path in storage.files(self.folder / kind) if path.name.startswith(key)]

    def at_work(self, but: str) -> bool:
        """Whether anyone has rows in hand but one actor, and those that gave up."""
        idle = {but, *(path.name for path in self.notes("gave_up"))}
        return any(path.name.split(".")[1] not in idle for path in (*self.notes("together"), *self.notes("alone")))


@dataclass(frozen=True)
class Part:
    """Rows that a worker does at once.

    Attributes:
        rows: to be changed in place.
        note: where it is noted; None where nothing is.
        alone: nothing else may be in progress in the process.
        seen: notes of processes that ended under these rows.
        against: those of them that speak against the rows.
    """

    rows: list[Row]
    note: Place | None = None
    alone: bool = False
    seen: list[Place] = field(default_factory=list)
    against: list[Place] = field(default_factory=list)


class Worker:
    """One process at work on a step.

    Args:
        journal: of the step; None notes nothing.
        names: of its stages.
        actor: whether it is a process of an actor.
    """

    def __init__(self, journal: Journal | None, names: Sequence[str], actor: bool = False) -> None:
        self.journal, self.names = journal, list(names)
        self.actor = _actor_id() if journal and actor else ""
        self.proved = not self.actor  # it has finished something
        self.shown = False  # there is a proof
        self.starts: list[Place] = []  # of the actor's processes since one of them finished something
        self.fruitless = False  # there were too many
        self.idle = False  # the others have no work
        # A node that came after the job had asked all nodes: the folder there is another one, or none.
        self.blind = journal is not None and _is_blind(journal.folder.parent)
        if journal and self.actor and not self.blind:
            mine = f"{self.actor}.start.{_node_id()}.{uuid.uuid4().hex}"
            storage.write_text(journal.folder / "starts" / mine, "")
            self.starts = journal.notes("starts", f"{self.actor}.")
            self.fruitless = len(_of_live_nodes(self.starts)) > FRUITLESS
            if self.gave_up:
                self._give_up()

    @property
    def gave_up(self) -> bool:
        """Whether the actor is at fault."""
        return self.fruitless

    def setup_failed(self, exc: Exception) -> None:
        """End the process of an actor that could not set up its stage: Ray starts another.

        Nothing happens the first time, as it may be the config's fault; unless others have worked, or it is a device's.
        """
        broken = any(said in str(exc) for said in DEVICE_ERRORS)
        if self.journal and self.actor and (broken or len(self.starts) > 1 or storage.exists(self._proof)):
            self._end(self.journal.folder / "together" / self._name("setup"))

    def parts(self, rows: list[Row], batch: pa.Table) -> Iterator[Part]:
        """The rows that are `ok`: together, or in the pieces that what happened before demands.

        Args:
            rows: of one batch; one that is found to end processes becomes an error row.
            batch: the same rows, as they were read.

        Raises:
            SegmentStopped: the step is to stop.
            UserError: this node does not see the run's folder.
        """
        if self.journal and self.blind:
            raise unshared(socket.gethostname(), str(self.journal.folder.parent))
        live = [i for i, row in enumerate(rows) if row["status"] == OK]
        if self.journal is None:
            yield Part([rows[i] for i in live])
            return
        self._go_on()
        if live:
            yield from self._parts([rows[i] for i in live])
        good = [i for i in live if rows[i]["status"] == OK]
        if good and self.actor and not self.shown:
            if not storage.exists(self._proof):
                storage.write_table(self._proof, batch.slice(good[0], 1))
            self.shown = True

    def _parts(self, rows: list[Row]) -> Iterator[Part]:
        together = self._part(rows, "together", [row.get("row_id") for row in rows])
        if len(together.against) < TOGETHER:
            yield together
            return
        tried = [self._part([row], "alone", row) for row in rows]
        culprits, rest = [part for part in tried if part.against], [part.rows[0] for part in tried if not part.against]
        if not culprits:
            yield from tried
        elif rest:
            yield from self._parts(rest)
        elif not self.proved and storage.exists(self._proof):
            yield self._part(storage.read_table(self._proof).to_pylist(), "together", "proof")
        for part in culprits:
            if len(part.against) >= ALONE and self.proved and len(self._settled(part)) >= ALONE:
                self._quarantine(part)
            else:
                yield part

    def _part(self, rows: list[Row], kind: str, content: Any) -> Part:
        assert self.journal is not None
        key = digest(content)
        note, seen = self.journal.folder / kind / self._name(key), self.journal.notes(kind, f"{key}.")
        return Part(rows, note, kind == "alone", seen, _against(seen))

    def _name(self, key: str) -> str:
        return f"{key}.{self.actor or 'task'}.{_node_id()}.{uuid.uuid4().hex}"

    def _settled(self, part: Part) -> list[Place]:
        """What speaks against a row once it is known which nodes are gone: tasks are tried again before."""
        began, own = time.monotonic(), _node_id()
        against = part.against
        while not self.actor and any(_node_of(note) != own for note in against):
            if time.monotonic() - began > NOTICED or len(against) < ALONE:
                break
            time.sleep(POLL)
            against = _against(part.seen)
        return against

    def _quarantine(self, part: Part) -> None:
        said = [storage.read_text(note).strip().partition("\n") for note in part.against]
        stage, _, last = max(said, key=lambda one: len(one[2]))
        why = last.rpartition("\n")[2] or f"{len(said)} times, without an exception: memory, a signal or an exit"
        (row,) = part.rows
        row["status"] = failure(stage or self.names[0], RowFailure("killed_its_process", why))

    @contextmanager
    def at(self, part: Part) -> Iterator[Callable[[str], None]]:
        """Note the part while the block runs; of an actor, end the process if it raises anything but a UserError.

        Yields:
            A function that notes which stage is at work on a part that is alone.
        """
        note = part.note
        if note is None:
            yield lambda _: None
            return
        if part.seen:
            counts.repeated(self.names[0], part.rows)
        storage.write_text(note, self.names[0])
        try:
            yield lambda stage: storage.write_text(note, stage) if part.alone else None
        except UserError:
            raise
        except Exception:
            if self.actor:
                self._end(note)
            raise
        for done in (note, *part.seen):
            storage.remove_file(done)
        self.proved = True
        while self.starts:
            storage.remove(self.starts.pop())

    def hold(self) -> None:
        """Wait before rows are given back while others have work: failing is quick, and would take all rows.

        Raises:
            SegmentStopped: the step is to stop.
        """
        assert self.journal is not None
        began = last = time.monotonic()
        while (now := time.monotonic()) - began < LONGEST:
            self._go_on()
            if self.journal.at_work(but=self.actor):
                self.idle, last = False, now
            elif self.idle or now - last >= QUIET:
                self.idle = True
                return
            time.sleep(POLL)

    def _go_on(self) -> None:
        if self.journal and (why := self.journal.stopped()):
            raise SegmentStopped(why)

    def _end(self, note: Place) -> None:
        """End this process, and leave the exception in hand in a note."""
        traceback.print_exc()
        storage.write_text(note, f"{self.names[0]}\n{traceback.format_exc()}")
        sys.stdout.flush()
        sys.stderr.flush()
        # Not `ray.actor.exit_actor`: after an exit on purpose Ray does not run the rows again.
        os._exit(1)

    def _give_up(self) -> None:
        """Note what the actor's processes died of; not against the rows, which others may well do."""
        assert self.journal is not None
        own = [note for kind in ("together", "alone") for note in self.journal.notes(kind)]
        own = [note for note in own if note.name.split(".")[1] == self.actor]
        said = max((storage.read_text(note) for note in own), key=len, default="")
        storage.write_text(self.journal.folder / "gave_up" / self.actor, said)
        for note in own:
            storage.remove(note)

    @property
    def _proof(self) -> Place:
        """A row that a process of the step has done: one that ends under it is at fault itself."""
        assert self.journal is not None
        return self.journal.folder / "proof.parquet"


def _is_blind(folder: Place) -> bool:
    return storage.is_local(folder) and not storage.exists(folder)


def _node_of(note: Place) -> str:
    return note.name.split(".")[2]


def _of_live_nodes(notes: list[Place]) -> list[Place]:
    """Those notes that were left on nodes which are still there."""
    live = _live_nodes() if notes else None
    return [note for note in notes if live is None or _node_of(note) in live]


def _against(notes: list[Place]) -> list[Place]:
    """The notes that speak against rows: all, where so many nodes were lost under them that it is no chance."""
    kept = _of_live_nodes(notes)
    return notes if len(notes) - len(kept) >= MANY else kept


def _actor_id() -> str:
    import ray

    return (ray.get_runtime_context().get_actor_id() or "") if ray.is_initialized() else ""
