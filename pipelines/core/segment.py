"""A segment: one streaming Ray Data plan from parquet to parquet, resumable row by row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from pipelines.core import counts, nodes, step, storage
from pipelines.core.commits import CHECKPOINT, ROWS, drop_doubles, heal
from pipelines.core.errors import TooManyErrors, WorkersFailed
from pipelines.core.journal import Journal
from pipelines.core.ledger import (
    Tally,
    balance,
    check_error_share,
    common_reasons,
    commonest_error,
    count_rows,
    count_status,
)
from pipelines.core.progress import clock, say, short, watch
from pipelines.core.stage import PooledStage, Stage, check_columns, fuse
from pipelines.core.storage import Place

if TYPE_CHECKING:
    from ray.data import Dataset

LIGHT = Stage.num_cpus


@dataclass(frozen=True)
class Rows:
    """What one step of a job hands to the next.

    Attributes:
        folder: of parquet files; the next step reads the rows with status `ok`.
        fingerprint: of all that they depend on.
        earlier: what the steps before wrote, first to last.
    """

    folder: Place
    fingerprint: str
    earlier: tuple[Rows, ...] = ()


class Step(Protocol):
    """One step of a job: it reads the rows of the step before and hands on its own."""

    @property
    def name(self) -> str:
        """Also its folder under the run's `work`."""

    def depends(self, before: Rows) -> step.Depends:
        """Every value the result depends on."""

    def run(self, work: Place, before: Rows) -> Rows:
        """Do the step, or what is left of it."""

    def describe(self) -> list[str]:
        """What it does, line by line, for `--dry-run`."""


@dataclass(frozen=True)
class Segment:
    """A step whose rows pass through stages.

    Attributes:
        name: also its folder under the run's `work`.
        stages: in order.
        id_column: unique in the input; resuming skips the ids that are already written.
        rows_per_block: rows of one block: what a kill may cost.
        max_error_share: share of rows that may end as errors.
        token_columns: columns that hold what an engine read and wrote for a row.
    """

    name: str
    stages: Sequence[Stage]
    id_column: str = "row_id"
    rows_per_block: int = 64
    max_error_share: float = 1.0
    token_columns: Sequence[str] = ()

    def depends(self, before: Rows) -> step.Depends:
        """Every value the result depends on: what came before, and what each stage says of itself."""
        return {"before": before.fingerprint} | {
            stage.name: {"reads": stage.reads, "adds": [field.name for field in stage.adds], **stage.depends()}
            for stage in self.stages
        }

    def finished(self, work: Place, before: Rows) -> step.Result | None:
        """What the segment noted at its end, where it is done.

        Raises:
            UserError: the folder holds the work of another config.
        """
        return step.finished(work / self.name, self.depends(before), resumes=True)

    def run(self, work: Place, before: Rows) -> Rows:
        """Run the segment, or what is left of it.

        Args:
            work: the run's folder of intermediate results.
            before: the rows to read.

        Returns:
            Every row that was read, whatever became of it. The marker beside them has the ledger entry.

        Raises:
            UserError: the folder holds the work of another config.
            LedgerError: rows do not balance.
            TooManyErrors: more than `max_error_share` of the rows are errors.
        """
        if done := self.finished(work, before):
            say(f"{self.name}: already done, {done['rows']} rows")
        folder = work / self.name
        depends = self.depends(before)
        result = step.once(folder, depends, lambda folder: self._write(folder, before.folder), resumes=True)
        return Rows(folder / ROWS, result["fingerprint"], (*before.earlier, before))

    def describe(self) -> list[str]:
        """The segment and its stages, line by line, for `--dry-run`."""
        return [f"segment {self.name}", *(f"  {stage.contract()}" for stage in self.stages)]

    def _write(self, folder: Place, source: Place) -> step.Result:
        for stage in self.stages:
            stage.open(source)
        heal(folder)
        rows = storage.make_folder(folder / ROWS)
        rows_in = count_rows(source, self.id_column, only_ok=True)
        total, before, start = sum(rows_in.values()), storage.row_count(rows), time.monotonic()
        say(f"{self.name}: {total} rows" + (f", {before} of them already written" if before else ""))
        tally = Tally(self.name, rows, self.max_error_share)
        written = counts.Written(self.name, tally.look())
        if total > before:
            self._fill(folder, source, total, tally, written)
        elif not total:
            storage.write_empty(rows, check_columns(storage.folder_schema(source), self.stages))
        # Only where there are some: of 5.8 million ids it takes a while.
        if storage.row_count(rows) > total and drop_doubles(folder, self.id_column):
            say(f"{self.name}: workers of an earlier job wrote rows late; they are there once now")
        count_rows(rows, self.id_column)  # each id once
        entry = balance(self.name, rows_in, count_status(rows))
        written.now(counts.entry_statuses(entry), total)
        check_error_share(self.name, entry, self.max_error_share, commonest_error(rows) if total else None)
        seconds, tokens = time.monotonic() - start, storage.column_sum(rows, self.token_columns)
        each = seconds / max(total - before, 1)
        cost = f", {short(seconds / tokens)} a token" if tokens and not before else ""
        say(f"{self.name}: done in {clock(seconds)}, {short(each)} a row{cost}")
        for line in common_reasons(entry):
            say(f"  {line}")
        return {
            "rows": total,
            "resumed_from": before,
            "seconds": round(seconds, 2),
            "tokens": tokens,
            "ledger": entry,
        }

    def _fill(self, folder: Place, source: Place, total: int, tally: Tally, written: counts.Written) -> None:
        """Stream the rows that are not written yet; those that workers at fault gave back, again, on fresh workers.

        Raises:
            WorkersFailed: no worker finishes anything.
            TooManyErrors: more than `max_error_share` of the rows so far are errors.
        """
        journal, stuck = Journal(folder / step.JOURNAL), 0
        start = left = total - storage.row_count(folder / ROWS)

        def rows_so_far() -> int:
            if why := tally.too_many(total):
                journal.stop(why)
            written.now(tally.statuses, total)
            return tally.rows

        while left:
            journal.clear()
            there = nodes.live()
            try:
                with watch(self.name, total, rows_so_far):
                    self._stream(folder, source, journal)
            except Exception as exc:
                if why := journal.stopped():
                    raise TooManyErrors(why) from None
                if not nodes.from_a_lost_node(exc, there):
                    raise
                say(f"{self.name}: a node was lost, and the stream with it: going on from what is written")
                continue
            failed = journal.notes("gave_up")
            heal(folder)
            if failed:
                drop_doubles(folder, self.id_column)
            missing = total - storage.row_count(folder / ROWS)
            if not failed or not missing:
                break  # rows that are missing for another reason are for the ledger to find
            stuck = 0 if missing < left else stuck + 1
            counts.gave_up(self.name, len(failed))
            said = max((storage.read_text(note) for note in failed), key=len)
            if missing == start or stuck > 1:
                raise WorkersFailed(_no_worker(self.name, len(failed), said))
            say(f"{self.name}: {len(failed)} workers failed for good and gave back {missing} rows: others try them")
            left = missing
        journal.clear()

    def _stream(self, folder: Place, source: Place, journal: Journal) -> None:
        import ray
        from ray.data.checkpoint import CheckpointConfig

        heal(folder)  # before Ray looks: of a commit that was cut off it would remove the data and keep the ids
        ids, own = storage.for_ray(storage.make_folder(folder / CHECKPOINT))
        context = ray.data.DataContext.get_current()
        previous = context.checkpoint_config
        # Ray commits ids and data file together in two phases: a killed job leaves no row half written.
        context.checkpoint_config = CheckpointConfig(
            id_column=self.id_column,
            checkpoint_path=ids,
            override_filesystem=own,
            delete_checkpoint_on_success=False,
        )
        try:
            asked = {"num_cpus": self.cpus}
            storage.write_ray(self.dataset(source, journal)[0], folder / ROWS, ray_remote_args=asked)
        finally:
            context.checkpoint_config = previous

    @property
    def cpus(self) -> float:
        """CPUs that a task that reads or writes asks for.

        A whole one, as Ray would: with a quarter, four times as many processes share the CPUs, and each loads a
        tokenizer. Beside pools that have grown, a small cluster has no whole one left: all rows would be computed
        before the first one is safe.
        """
        return LIGHT if any(isinstance(stage, PooledStage) for stage in self.stages) else 1.0

    def dataset(self, source: Place, journal: Journal | None = None) -> tuple[Dataset, pa.Schema]:
        """The Ray Data plan over the rows of a folder, and the schema of what comes out."""
        import ray
        from ray.data.expressions import col

        schema = storage.folder_schema(source)
        path, system = storage.for_ray(source)
        dataset = ray.data.read_parquet(path, filesystem=system, num_cpus=self.cpus)
        dataset = dataset.filter(expr=col("status") == "ok")
        dataset.set_name(self.name)  # the dashboard and Ray's own metrics show the plan under it
        # Ray merges small files into one read task: without this one actor would work alone, and the
        # checkpoint would commit only at the very end.
        dataset = dataset.repartition(target_num_rows_per_block=self.rows_per_block)
        for stage in fuse(self.stages):
            schema = check_columns(schema, stage.parts())
            dataset = stage.attach(dataset, schema, journal)
        return dataset, schema


def _no_worker(name: str, failed: int, said: str) -> str:
    stage, _, fault = said.strip().partition("\n")
    last = fault.rpartition("\n")[2] or "no exception: memory, a signal or an exit"
    said = f"segment '{name}': no worker of '{stage}' finishes anything, {failed} gave up: {last}"
    return f"{said}\n{fault}".rstrip()


def ledger_of(rows: Rows) -> Any:
    """The ledger entry of the step that wrote some rows."""
    return (step.result_of(rows.folder.parent) or {})["ledger"]
