"""Texts that mean what a benchmark's mean: the nearest one by the cosine of their embeddings."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.core import step, storage
from pipelines.core.determinism import unit
from pipelines.core.records import Row
from pipelines.core.segment import Rows, Segment
from pipelines.core.stage import PooledStage
from pipelines.core.storage import Place, Version
from pipelines.experiments.data_map.config import DataMapConfig
from pipelines.experiments.data_map.embed import EMBEDDING, Embed
from pipelines.experiments.leaks.config import EmbeddingsConfig
from pipelines.experiments.leaks.hits import HITS, hit, read_texts

COLUMNS = ("row_id", "source", "instruction", "context", "responses", "status")


def embedder(config: EmbeddingsConfig) -> Embed:
    """The map's embedding model, with these settings."""
    own = DataMapConfig(max_tokens=config.max_tokens, actors=config.actors, rows_per_batch=config.rows_per_batch)
    return Embed(own)


def embed_benchmarks(work: Place, texts: Place, config: EmbeddingsConfig, least_words: int) -> Place:
    """The embeddings of the benchmarks' texts, once for all sets.

    Args:
        work: of the job.
        texts: parquet file (benchmark, text).
        config: of the model.
        least_words: of a text.

    Returns:
        A folder of parquet files (source: the benchmark, instruction: the text, embedding).
    """
    depends = {"texts": storage.content_digest(texts), "least_words": least_words}

    def write(folder: Place) -> step.Result:
        known = [pair for pair in read_texts(texts) if len(pair[1].split()) >= least_words]
        rows = [
            {"row_id": f"{number:08d}", "source": benchmark, "instruction": text, "responses": [], "status": "ok"}
            for number, (benchmark, text) in enumerate(known)
        ]
        kinds = {"responses": pa.list_(pa.string())}
        schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
        storage.write_table(folder / "rows" / "texts.parquet", pa.Table.from_pylist(rows, schema=schema))
        return {"rows": len(rows)}

    done = step.once(work / "texts", depends, write)
    rows = Rows(work / "texts" / "rows", done["fingerprint"])
    return Segment("embedded", [embedder(config)]).run(work, rows).folder


class Alike(PooledStage):
    """Adds, of a sample of the rows, the benchmark's text that is most like one of theirs, if it is alike enough.

    Args:
        embedded: folder of `embed_benchmarks`.
        config: of the model, and what counts as alike.
        share: of the rows that are looked at, by hash.
        seed: of that choice.
    """

    name = "embeddings"
    reads = ("texts",)
    adds = (pa.field("embedded", pa.bool_()), pa.field("alike", HITS))

    def __init__(self, embedded: Place, config: EmbeddingsConfig, share: float, seed: int) -> None:
        self.embedded, self.config, self.share, self.seed = embedded, config, share, seed
        self.actors, self.rows_per_batch = config.actors, config.rows_per_batch
        self.model = embedder(config)

    def depends(self) -> dict[str, Any]:
        """The model, the benchmarks' texts, the threshold and the sample."""
        texts = step.result_of(self.embedded.parent)
        return {
            **self.model.depends(),
            "texts": (texts or {}).get("fingerprint"),
            "config": self.config.identity(),
            "share": self.share,
            "seed": self.seed,
        }

    def setup(self) -> None:
        """Load the model, once in each actor."""
        self.model.setup()

    def apply_batch(self, rows: list[Row]) -> None:
        """Embed the texts of the rows that are in the sample, one by one, and look for the nearest."""
        if self.model.model is None:
            self.setup()
        theirs, vectors = _vectors(storage.version(storage.files(self.embedded, ".parquet")[0]), self.embedded)
        for row in rows:
            row["embedded"] = unit(self.seed, "leaks by embedding", row["row_id"]) < self.share
            row["alike"] = []
            best: tuple[float, int, str] | None = None
            for text in row["texts"] if row["embedded"] and len(vectors) else []:
                cosines = vectors @ np.array(self.model.embed(text), np.float32)
                place = int(cosines.argmax())
                if best is None or cosines[place] > best[0]:
                    best = float(cosines[place]), place, text
            if best and best[0] >= self.config.threshold:
                benchmark, other = theirs[best[1]]
                row["alike"] = [hit(benchmark, "embedding", best[0], other, best[2])]


@cache
def _vectors(_: Version, embedded: Place) -> tuple[list[tuple[str, str]], np.ndarray]:
    """(benchmark, text) and their embeddings (N, D), in the order of the texts."""
    table = storage.read_table(embedded, ["row_id", "source", "instruction", EMBEDDING.name]).sort_by("row_id")
    known = list(zip(table["source"].to_pylist(), table["instruction"].to_pylist(), strict=True))
    vectors = np.array(table[EMBEDDING.name].to_pylist(), np.float32).reshape(len(known), -1)
    return known, vectors
