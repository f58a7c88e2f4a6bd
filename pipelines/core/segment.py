"""A segment: one streaming Ray Data plan from parquet to parquet, resumable row by row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.files import read_json, write_json
from pipelines.core.ledger import Entry, balance, check_error_share, count_rows, count_status
from pipelines.core.progress import clock, say, short, watch
from pipelines.core.stage import RowTask, Stage, check_columns

if TYPE_CHECKING:
    from ray.data import Dataset

PLAN, DONE = "plan.json", "done.json"


@dataclass
class Segment:
    """What a segment is: its input, its stages and what its result depends on.

    Attributes:
        name: also the folder under `work`.
        work: the run's folder of intermediate files.
        source: a folder of parquet files; only its rows with status `ok` are read.
        stages: in order.
        depends: every value the result depends on (config, fingerprints of what came before).
        id_column: unique in the input; resuming skips the ids that are already written.
        rows_per_block: rows of one block: what a kill may cost.
        max_error_share: share of rows that may end as errors.
        token_columns: columns that hold what an engine read and wrote for a row.
    """

    name: str
    work: Path
    source: Path
    stages: Sequence[Stage]
    depends: dict[str, Any]
    id_column: str = "row_id"
    rows_per_block: int = 64
    max_error_share: float = 1.0
    token_columns: Sequence[str] = ()
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Plan, result and checkpoint of this segment."""
        return self.work / self.name

    @property
    def rows(self) -> Path:
        """Folder of the parquet files the segment writes: every row it read, whatever became of it."""
        return self.folder / "rows"

    @property
    def fingerprint(self) -> str:
        """Hash of all that the result depends on."""
        return digest(self.name, self.depends)

    def finished(self) -> bool:
        """Whether the segment is already done for this very config.

        Raises:
            UserError: the folder holds the work of another config.
        """
        claim(self.folder, self.fingerprint, self.depends)
        return (self.folder / DONE).exists()

    def run(self) -> Entry:
        """Run the segment, or what is left of it, and return its ledger entry.

        Raises:
            LedgerError: rows do not balance.
            TooManyErrors: more than `max_error_share` of the rows are errors.
        """
        if self.finished():
            self.result = read_json(self.folder / DONE)
            say(f"{self.name}: already done, {self.result['rows']} rows")
            return self.result["ledger"]
        rows_in = count_rows(self.source, self.id_column, only_ok=True)
        total, before, start = sum(rows_in.values()), written(self.rows), time.monotonic()
        say(f"{self.name}: {total} rows" + (f", {before} of them already written" if before else ""))
        if total > before:
            with watch(self.name, total, lambda: written(self.rows)):
                self._stream()
        elif not total:
            write_empty(self.rows, check_columns(folder_schema(self.source), self.stages))
        count_rows(self.rows, self.id_column)  # each id once
        entry = balance(self.name, rows_in, count_status(self.rows))
        seconds, tokens = time.monotonic() - start, count_tokens(self.rows, self.token_columns)
        self.result = {
            "fingerprint": self.fingerprint,
            "rows": total,
            "resumed_from": before,
            "seconds": round(seconds, 2),
            "tokens": tokens,
            "ledger": entry,
        }
        check_error_share(self.name, entry, self.max_error_share)
        write_json(self.folder / DONE, self.result)
        each = seconds / max(total - before, 1)
        cost = f", {short(seconds / tokens)} a token" if tokens and not before else ""
        say(f"{self.name}: done in {clock(seconds)}, {short(each)} a row{cost}")
        return entry

    def _stream(self) -> None:
        import ray
        from ray.data.checkpoint import CheckpointConfig

        context = ray.data.DataContext.get_current()
        previous = context.checkpoint_config
        # Ray commits ids and data file together in two phases: a killed job leaves no row half written.
        context.checkpoint_config = CheckpointConfig(
            id_column=self.id_column,
            checkpoint_path=str(self.folder / "checkpoint"),
            delete_checkpoint_on_success=False,
        )
        try:
            dataset, _ = self.plan()
            self.rows.mkdir(parents=True, exist_ok=True)
            (self.folder / "checkpoint").mkdir(exist_ok=True)
            dataset.write_parquet(str(self.rows))
        finally:
            context.checkpoint_config = previous

    def plan(self) -> tuple[Dataset, pa.Schema]:
        """The Ray Data plan of the segment and the schema of its rows."""
        import ray
        from ray.data.expressions import col

        schema = folder_schema(self.source)
        dataset = ray.data.read_parquet(str(self.source)).filter(expr=col("status") == "ok")
        # Ray merges small files into one read task: without this one actor would work alone, and the
        # checkpoint would commit only at the very end.
        dataset = dataset.repartition(target_num_rows_per_block=self.rows_per_block)
        for light, group in groupby(self.stages, key=lambda stage: not hasattr(stage, "attach")):
            stages = list(group)
            if light:
                schema = check_columns(schema, stages)
                dataset = dataset.map_batches(
                    RowTask(stages, schema),
                    batch_format="pyarrow",
                    batch_size=None,
                    num_cpus=max(stage.num_cpus for stage in stages),
                )
            else:
                for stage in stages:
                    schema = check_columns(schema, [stage])
                    dataset = stage.attach(dataset, schema)  # type: ignore[attr-defined]
        return dataset, schema


def claim(folder: Path, fingerprint: str, depends: dict[str, Any]) -> None:
    """Mark a folder as the place of one config's work.

    Raises:
        UserError: another config has worked there.
    """
    plan = folder / PLAN
    if plan.exists():
        old = read_json(plan)
        if old["fingerprint"] != fingerprint:
            changed = sorted(k for k in depends.keys() | old["depends"].keys() if _changed(k, depends, old["depends"]))
            raise UserError(
                f"holds a run of another config (changed: {', '.join(changed)})",
                where=str(folder),
                fix="choose another out_dir, or remove that folder",
            )
    else:
        write_json(plan, {"fingerprint": fingerprint, "depends": depends})


def _changed(key: str, new: dict[str, Any], old: dict[str, Any]) -> bool:
    return digest(new.get(key)) != digest(old.get(key))


def written(folder: Path) -> int:
    """Rows in the finished parquet files of a folder."""
    total = 0
    for path in folder.glob("*.parquet"):
        try:
            total += pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowInvalid):
            continue  # being written right now
    return total


def count_tokens(folder: Path, columns: Sequence[str]) -> int:
    """Sum of some token columns over the rows of a folder."""
    import pyarrow.compute as pc
    import pyarrow.dataset as pads

    batches = pads.dataset(str(folder), format="parquet").to_batches(columns=list(columns)) if columns else []
    return sum(pc.sum(batch[name]).as_py() or 0 for batch in batches for name in columns)


def folder_schema(folder: Path) -> pa.Schema:
    """Schema of the parquet files of a folder.

    Raises:
        UserError: the folder has no parquet file, or one that cannot be read.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise UserError("no parquet files", where=str(folder))
    try:
        return pq.read_schema(paths[0]).remove_metadata()
    except (OSError, pa.ArrowInvalid):
        raise UserError("not a readable parquet file", where=str(paths[0])) from None


def write_empty(folder: Path, schema: pa.Schema) -> None:
    """A parquet file without rows, so that what follows still finds its columns."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(schema.empty_table(), folder / "empty.parquet")
