"""A stage is one small class: the columns it reads and adds, and what it does to one row."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipelines.core.records import Row, error, filtered, kind

if TYPE_CHECKING:
    from ray.data import Dataset


class Stage(ABC):
    """One step of a segment. Rows that are no longer `ok` pass by untouched; an exception makes an error row."""

    name: str
    reads: tuple[str, ...] = ()
    """The columns it looks at or changes: its rows have these, `adds`, the status and the row_id only."""
    adds: tuple[pa.Field, ...] = ()
    num_cpus: float = 0.25
    """CPUs that Ray sets aside for it."""

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
    num_gpus: float = 0.0
    rows_per_batch: int = 64

    def setup(self) -> None:
        """Load what the stage needs; called once in each actor."""

    def attach(self, dataset: Dataset, schema: pa.Schema) -> Dataset:
        """Add the stage to a Ray Data plan whose rows then have `schema`."""
        import ray

        return dataset.map_batches(
            PooledActor,
            fn_constructor_args=(self, schema),
            batch_format="pyarrow",
            batch_size=self.rows_per_batch,
            compute=ray.data.ActorPoolStrategy(min_size=self.actors[0], max_size=self.actors[1]),
            num_cpus=self.num_cpus,
            num_gpus=self.num_gpus or None,
        )


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
    except Exception:  # find the row at fault: one bad row must not take its neighbours with it
        for row in live:
            guard(stage.name, row, partial(stage.apply_batch, [row]))


def guard(name: str, row: Row, call: Callable[[], Any]) -> None:
    """Call, and turn an exception into an error status of the row: a poisoned row never stops a job."""
    try:
        call()
    except Exception as exc:  # the reason is kept with the row, and max_error_share bounds how many
        row["status"] = failure(name, exc)


def failure(name: str, exc: Exception) -> str:
    """Status of a row that an exception spoiled; what the message quotes of a broken text can still be stored."""
    said = " ".join(str(exc).split())[:200].encode("utf-8", "backslashreplace").decode()
    return error(f"{name}:{type(exc).__name__}:{said}")


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

    def __init__(self, stages: Sequence[Stage], schema: pa.Schema) -> None:
        self.stages, self.schema = list(stages), schema

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = read_rows(batch, self.stages)
        apply_stages(self.stages, rows)
        return write_rows(batch, rows, self.stages, self.schema)


class PooledActor:
    """Holds one pooled stage in a Ray Data actor."""

    def __init__(self, stage: PooledStage, schema: pa.Schema) -> None:
        self.stage, self.schema = stage, schema
        stage.setup()

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = read_rows(batch, [self.stage])
        apply_stage(self.stage, rows)
        return write_rows(batch, rows, [self.stage], self.schema)
