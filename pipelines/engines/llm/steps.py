"""What to ask about one row: steps that run in turn, for many rows at once, whatever model answers them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pyarrow as pa

from pipelines.core import counts
from pipelines.core.errors import RowFailure
from pipelines.core.journal import Journal
from pipelines.core.records import Row, failure, filtered, kind
from pipelines.core.stage import PooledStage, StageActor
from pipelines.engines.llm.ask import TOO_LONG, Ask, TooLong
from pipelines.engines.llm.asked import Asked


class PromptStep(ABC):
    """What to ask for one row, and what to keep of the answers."""

    name: str
    reads: tuple[str, ...] = ()
    adds: tuple[pa.Field, ...] = ()
    closes: bool = False
    """It asks for answers that are held to their ending."""
    seeded: bool = False
    """It samples, with seeds."""

    def depends(self) -> dict[str, Any]:
        """The settings and template texts that its result depends on."""
        return {}

    @abstractmethod
    async def run(self, row: Row, ask: Ask) -> None:
        """Ask, and change the row in place.

        Raises:
            RowFailure: the row cannot be done.
        """

    def count(self, rows: Sequence[Row]) -> None:  # noqa: B027 - most steps have nothing to count
        """Count what became of the rows of a batch, for the job's metrics (`engines/counts.py`)."""


class StepStage(PooledStage):
    """A stage made of steps that ask the same model: it reads and adds what they do."""

    def __init__(self, name: str, steps: Sequence[PromptStep]) -> None:
        self.name, self.steps = name, list(steps)
        self.adds = tuple(column for step in steps for column in step.adds)
        added = {column.name for column in self.adds}
        self.reads = tuple(dict.fromkeys(name for step in steps for name in step.reads if name not in added))
        self.ask: Ask | None = None

    @abstractmethod
    def connect(self) -> Ask:
        """The model, ready to be asked."""

    def depends(self) -> dict[str, Any]:
        return {"steps": {step.name: step.depends() for step in self.steps}}

    def setup(self) -> None:
        self.ask = self.connect()

    def actor(self) -> type[StageActor]:
        return StepActor

    def apply_batch(self, rows: list[Row]) -> None:
        asyncio.run(self.run(rows))

    async def run(self, rows: Sequence[Row]) -> None:
        """Run the steps of all rows at once, each row's in turn while it is `ok`."""
        if self.ask is None:
            self.setup()
        assert self.ask is not None
        asked = Asked(self.ask)
        await run_rows(rows, self.steps, asked)
        asked.count(self.name)
        for step in self.steps:
            step.count(rows)


async def run_rows(rows: Sequence[Row], steps: Sequence[PromptStep], ask: Ask) -> None:
    """Run the steps of all rows at once; a RowFailure ends its row alone.

    Args:
        rows: changed in place.
        steps: in turn, while the row is `ok`.
        ask: the model.
    """
    await asyncio.gather(*(_run_row(row, steps, ask) for row in rows))


async def _run_row(row: Row, steps: Sequence[PromptStep], ask: Ask) -> None:
    for step in steps:
        if kind(row["status"]) != "ok":
            return
        try:
            await step.run(row, ask)
        except TooLong:
            row["status"] = filtered(TOO_LONG)
        except RowFailure as exc:
            row["status"] = failure(step.name, exc)


class StepActor(StageActor):
    """Runs several batches at once, each row as a coroutine."""

    stage: StepStage

    def __init__(self, stage: StepStage, schema: pa.Schema, journal: Journal | None = None) -> None:
        super().__init__(stage, schema, journal)
        self.busy, self.free = 0, asyncio.Condition()

    async def __call__(self, batch: pa.Table) -> AsyncIterator[pa.Table]:
        if self.worker.gave_up:
            await asyncio.to_thread(self.worker.hold)
            yield self.schema.empty_table()
            return
        rows = self.read(batch)
        for part in self.worker.parts(rows, batch):
            async with self._room(part.alone):
                with self.worker.at(part):
                    await self.stage.run(part.rows)
            counts.computed(self.stage.name, part.rows)
        yield self.write(batch, rows)

    @asynccontextmanager
    async def _room(self, alone: bool) -> AsyncIterator[None]:
        """Room beside other batches, or alone: what a process dies of then is known."""
        async with self.free:
            await self.free.wait_for(lambda: self.busy == 0 if alone else self.busy >= 0)
            self.busy += -1 if alone else 1
        try:
            yield
        finally:
            async with self.free:
                self.busy += 1 if alone else -1
                self.free.notify_all()
