"""A stage is one small class: the columns it reads and adds, what its result depends on, what it does to one row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.core import counts
from pipelines.core.errors import RowFailure, UserError
from pipelines.core.journal import Journal, Worker
from pipelines.core.placement import Placement
from pipelines.core.records import Row, error, failure, filtered, kind
from pipelines.core.storage import Place

if TYPE_CHECKING:
    from ray.data import Dataset


class Stage(ABC):
    """One step of a segment. Rows that are no longer `ok` pass by untouched; a RowFailure makes an error row."""

    name: str
    reads: tuple[str, ...] = ()
    """The columns it looks at or changes: its rows have these, `adds`, the status and the row_id only."""
    adds: tuple[pa.Field, ...] = ()
    num_cpus: float = 0.25
    """CPUs that Ray sets aside for it."""
    fusable = True
    """Whether it may run in one Ray task with the stages beside it."""

    def depends(self) -> dict[str, Any]:
        """What its result depends on beside its code and the columns it reads: settings, template texts, models."""
        return {}

    def open(self, source: Place) -> None:  # noqa: B027 - most stages need not know
        """Told, before any row, which folder the segment's rows come from; for stages that look at all of them."""

    def attach(self, dataset: Dataset, schema: pa.Schema, journal: Journal | None = None) -> Dataset:
        """Add the stage to a Ray Data plan whose rows then have `schema`: here, as one pass over each block."""
        return dataset.map_batches(
            RowTask(self.parts(), schema, journal), batch_format="pyarrow", batch_size=None, num_cpus=self.num_cpus
        )

    def parts(self) -> Sequence[Stage]:
        """The stages this one is made of."""
        return [self]

    @abstractmethod
    def apply(self, row: Row) -> None:
        """Change the row in place; a status other than `ok` takes it out of the stages that follow."""

    def apply_batch(self, rows: list[Row]) -> None:
        """Change many rows in place. The result for a row must not depend on the rows beside it."""
        for row in rows:
            guard(self.name, row, partial(self.apply, row))

    def contract(self) -> str:
        """One line for `--dry-run`: what the stage reads and adds."""
        return f"{self.name}: reads {', '.join(self.reads) or '-'}; adds {', '.join(f.name for f in self.adds) or '-'}"


class Filter(Stage):
    """A stage that turns rows away and says why."""

    @abstractmethod
    def reason(self, row: Row) -> str | None:
        """Why the row leaves, in a few words joined by `_`; None lets it stay."""

    def apply(self, row: Row) -> None:
        if (why := self.reason(row)) is not None:
            row["status"] = filtered(why)


class Lookup(Stage):
    """A stage that looks rows up in something large, which a process keeps from batch to batch.

    Once a batch it asks whether that is still what it was: in a store, asking for each row would be a request a row.
    """

    @abstractmethod
    def known(self) -> Any:
        """What rows are looked up in, read anew where it has changed."""

    @abstractmethod
    def look_up(self, row: Row, known: Any) -> None:
        """Change the row in place."""

    def apply(self, row: Row) -> None:
        self.look_up(row, self.known())

    def apply_batch(self, rows: list[Row]) -> None:
        known = self.known() if rows else None
        for row in rows:
            guard(self.name, row, partial(self.look_up, row, known))


class BatchStage(Stage):
    """A stage that does many rows at once for less than one by one."""

    num_cpus = 1.0

    def apply(self, row: Row) -> None:
        self.apply_batch([row])

    @abstractmethod
    def apply_batch(self, rows: list[Row]) -> None:
        """Change the rows in place. The result for a row must not depend on the rows beside it."""


class PooledStage(BatchStage):
    """A stage with something large to load: it lives in a pool of actors."""

    actors: tuple[int, int] = (1, 1)
    """Least and most of them."""
    num_gpus: float = 0.0
    placement: Placement = Placement()
    """Nodes that they may use."""
    rows_per_batch: int = 64
    blocks_at_once: int = 1
    """Blocks in progress in one actor."""
    fusable = False

    def setup(self) -> None:
        """Load what the stage needs; called once in each actor."""

    def environment(self) -> dict[str, str]:
        """Environment variables of an actor's process."""
        return {}

    def actor(self) -> type[StageActor]:
        """The class that holds the stage in Ray Data."""
        return PooledActor

    def attach(self, dataset: Dataset, schema: pa.Schema, journal: Journal | None = None) -> Dataset:
        """Add the stage to a Ray Data plan whose rows then have `schema`: as a pool of actors that hold it."""
        import ray

        variables = self.environment()
        return dataset.map_batches(
            self.actor(),
            fn_constructor_args=(self, schema, journal),
            batch_format="pyarrow",
            batch_size=self.rows_per_batch,
            compute=ray.data.ActorPoolStrategy(
                min_size=self.actors[0], max_size=self.actors[1], max_concurrent_calls_per_actor=self.blocks_at_once
            ),
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus or None,
            **self.placement.options(),
            runtime_env={"env_vars": variables} if variables else None,
        )


class Fused(Stage):
    """Light stages that stand beside each other, run in one pass over a block."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = list(stages)
        self.name = " + ".join(stage.name for stage in stages)
        self.num_cpus = max(stage.num_cpus for stage in stages)
        self.adds = tuple(column for stage in stages for column in stage.adds)
        added = {column.name for column in self.adds}
        self.reads = tuple(dict.fromkeys(name for stage in stages for name in stage.reads if name not in added))

    def parts(self) -> Sequence[Stage]:
        return self.stages

    def apply(self, row: Row) -> None:
        apply_stages(self.stages, [row])


def fuse(stages: Sequence[Stage]) -> list[Stage]:
    """The stages with each run of fusable ones as one."""
    groups = [(fusable, list(group)) for fusable, group in groupby(stages, key=lambda stage: stage.fusable)]
    return [stage for fusable, group in groups for stage in ([Fused(group)] if fusable else group)]


def check_columns(schema: pa.Schema, stages: Sequence[Stage]) -> pa.Schema:
    """The schema after `stages`, given the one before them.

    Raises:
        ValueError: a stage reads a column that nothing before it provides.
    """
    for stage in stages:
        missing = [name for name in stage.reads if name not in schema.names]
        if missing:
            raise ValueError(f"stage '{stage.name}' reads {missing}, which nothing before it adds")
        for field in stage.adds:
            if field.name not in schema.names:
                schema = schema.append(field)
    return schema


def apply_stages(stages: Iterable[Stage], rows: list[Row]) -> None:
    """Run the rows through the stages; a row that one of them takes out passes by the others."""
    for stage in stages:
        apply_stage(stage, rows)


def apply_stage(stage: Stage, rows: list[Row]) -> None:
    """Run the rows that are still `ok` through one stage."""
    live = [row for row in rows if kind(row["status"]) == "ok"]
    try:
        stage.apply_batch(live)
    except RowFailure:  # find the row at fault: one bad row must not take its neighbours with it
        for row in live:
            guard(stage.name, row, partial(stage.apply_batch, [row]))


def guard(name: str, row: Row, call: Callable[[], Any]) -> None:
    """Call, and turn a RowFailure into an error status of the row: a poisoned row never stops a job."""
    try:
        call()
    except RowFailure as exc:  # the reason is kept with the row, and max_error_share bounds how many
        row["status"] = failure(name, exc)


def to_table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows as an Arrow table of exactly `schema`; absent columns become null.

    A row with a value that its column cannot hold, such as a lone surrogate, becomes an error row without it.
    """
    try:
        return pa.Table.from_pylist(rows, schema=schema)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        if "status" not in schema.names:
            raise
    return pa.Table.from_pylist([_storable(row, schema) for row in rows], schema=schema)


def _storable(row: Row, schema: pa.Schema) -> Row:
    kept = dict(row)
    for column in schema:
        try:
            pa.array([row.get(column.name)], column.type)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as exc:
            kept |= {column.name: None, "status": error(f"not_storable:{column.name}:{type(exc).__name__}")}
    return kept


def read_rows(batch: pa.Table, stages: Sequence[Stage]) -> list[Row]:
    """The rows of a batch, with the columns that the stages have to do with: others stay in Arrow, untouched."""
    names = _involved(stages)
    return batch.select([name for name in batch.column_names if name in names]).to_pylist()


def write_rows(batch: pa.Table, rows: list[Row], stages: Sequence[Stage], schema: pa.Schema) -> pa.Table:
    """The batch again, with what the stages have made of its rows; a table of exactly `schema`."""
    names = _involved(stages)
    done = to_table(rows, pa.schema([column for column in schema if column.name in names]))
    columns = [(done if column.name in names else batch)[column.name] for column in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _involved(stages: Sequence[Stage]) -> set[str]:
    return {"status", "row_id"}.union(*((*stage.reads, *(column.name for column in stage.adds)) for stage in stages))


class RowTask:
    """The light stages that stand beside each other, fused into one pass over a batch."""

    def __init__(self, stages: Sequence[Stage], schema: pa.Schema, journal: Journal | None = None) -> None:
        self.stages, self.schema, self.journal = list(stages), schema, journal

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = read_rows(batch, self.stages)
        worker = Worker(self.journal, [stage.name for stage in self.stages])
        for part in worker.parts(rows, batch):
            with worker.at(part) as at:
                for stage in self.stages:
                    at(stage.name)
                    apply_stage(stage, part.rows)
        return write_rows(batch, rows, self.stages, self.schema)


class StageActor:
    """A Ray Data actor that holds one pooled stage."""

    def __init__(self, stage: PooledStage, schema: pa.Schema, journal: Journal | None = None) -> None:
        self.stage, self.schema = stage, schema
        self.worker = Worker(journal, [stage.name], actor=True)
        self.mistake: UserError | None = None
        if self.worker.gave_up:
            return
        try:
            stage.setup()
        except UserError as mistake:  # for the first batch: of an actor that does not start, Ray gives only the text
            self.mistake = mistake
        except Exception as exc:
            self.worker.setup_failed(exc)
            raise

    def read(self, batch: pa.Table) -> list[Row]:
        """The rows of a batch, with the columns of the stage.

        Raises:
            UserError: the stage could not be set up.
        """
        if self.mistake:
            raise self.mistake
        return read_rows(batch, [self.stage])

    def write(self, batch: pa.Table, rows: list[Row]) -> pa.Table:
        """The batch with its rows as the stage has left them."""
        return write_rows(batch, rows, [self.stage], self.schema)


class PooledActor(StageActor):
    """Runs its stage on one batch at a time."""

    def __call__(self, batch: pa.Table) -> pa.Table:
        if self.worker.gave_up:
            self.worker.hold()
            return self.schema.empty_table()
        rows = self.read(batch)
        for part in self.worker.parts(rows, batch):
            with self.worker.at(part):
                apply_stage(self.stage, part.rows)
            counts.computed(self.stage.name, part.rows)
        return self.write(batch, rows)
