"""The pairs that are audited: a sample by hash of those with critiques, and the part of it that people see."""

from __future__ import annotations

import heapq
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core import step, storage
from pipelines.core.determinism import digest, unit
from pipelines.core.errors import UserError
from pipelines.core.records import Row
from pipelines.core.run import Run
from pipelines.core.segment import ROWS, Rows
from pipelines.core.storage import Place

COLUMNS = (
    *("row_id", "source", "task", "instruction", "context", "responses", "reference", "rubric", "allowed"),
    *("verdict", "rejected_verdict", "chosen_critique", "rejected_critique", "generator", "status"),
)
SIDES = ("chosen", "rejected")


def draw(run: Run, rows: int, work: Place) -> Rows:
    """Write the sample, once for a curated set, a size and a seed.

    Args:
        run: whose curated pairs they are.
        rows: at most.
        work: gets the step's folder.

    Raises:
        UserError: there are no pairs with critiques.
    """
    if not storage.files(run.pairs, ".parquet"):
        raise UserError("no curated pairs to audit", where=str(run.pairs), fix="run ray_jobs/curate.py first")
    step.require_whole(run.curated, fix="run ray_jobs/curate.py again: it resumes")
    written = pc.field("format") == "cot"
    ids = [key for batch in storage.read_batches(run.pairs, ["row_id"], written) for key in batch["row_id"].to_pylist()]
    if not ids:
        raise UserError("no pair has critiques", where=str(run.pairs), fix="curate with curation.mix.cot_share above 0")
    chosen = sorted(heapq.nsmallest(rows, ids, key=lambda key: (unit(run.seed, "audit", key), key)))

    def write(folder: Place) -> step.Result:
        wanted = pc.field("row_id").isin(pa.array(chosen, pa.string()))
        schema = pa.schema([storage.folder_schema(run.pairs).field(name) for name in COLUMNS])
        storage.write_rows(storage.fresh(folder / ROWS), storage.read_batches(run.pairs, COLUMNS, wanted), schema)
        return {"rows": len(chosen)}

    depends = {"ids": digest(chosen), "of": identity(run), "columns": list(COLUMNS)}
    return Rows(work / "sample" / ROWS, step.once(work / "sample", depends, write, cheap=True)["fingerprint"])


def identity(run: Run) -> str:
    """What answers are about: the curated pairs and the seed, whatever the size of the sample; pairs have ids."""
    curated = (step.result_of(run.curated) or {}).get("fingerprint") or storage.content_digest(run.pairs)
    return digest(curated, run.seed)


def for_people(rows: list[Row], count: int, seed: int) -> list[Row]:
    """The pairs that people see, by hash; the first `count` of a larger number are the same."""
    return sorted(rows, key=lambda row: (unit(seed, "audit by people", row["row_id"]), row["row_id"]))[:count]


def shown_order(row: Row, seed: int) -> tuple[str, str]:
    """Which critique stands first on the page: the same for all annotators, and no hint at the side it argues for."""
    return ("chosen", "rejected") if unit(seed, "audit order", row["row_id"]) < 0.5 else ("rejected", "chosen")


def as_shown(row: Row, seed: int) -> dict[str, Any]:
    """A pair as the page gets it: nothing in it says which critique is which."""
    first, second = shown_order(row, seed)
    shown = {name: row[name] for name in ("task", "instruction", "context", "responses", "reference", "rubric")}
    critiques = [row[f"{first}_critique"], row[f"{second}_critique"]]
    return {"id": row["row_id"], **shown, "allowed": list(row["allowed"]), "critiques": critiques}
