"""Rows of a training set with texts, and the texts of benchmarks, for the tests of leaks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.stage import apply_stages
from pipelines.curation.config import DecontaminateConfig
from pipelines.experiments.leaks.config import LeaksConfig, NearConfig
from pipelines.experiments.leaks.hits import KeepOut, Near, Overlaps

PROMPT = (
    "Write a short story about an old lighthouse keeper who finds a letter in a bottle on the shore one winter "
    "morning and must decide before the next storm whether he will carry it to the village himself"
)
EDITED = " ".join("changed" if place % 8 == 7 else word for place, word in enumerate(PROMPT.split()))
SHARED = DecontaminateConfig()


def texts_file(folder: Path, **benchmarks: str) -> Path:
    path = folder / "texts.parquet"
    pq.write_table(pa.table({"benchmark": [*benchmarks], "text": [*benchmarks.values()]}), path)
    return path


def row(*texts: str, name: str = "0000.000000000") -> dict[str, Any]:
    found = {"raw_id": name, "row_id": name, "source": "leaks.sets", "file": "a.jsonl", "row": f"line {name[-1]}"}
    return {**found, "record": json.dumps({"texts": texts}), "texts": list(texts), "status": "ok"}


def words(prefix: str) -> str:
    return " ".join(f"{prefix}{n}" for n in range(80))


def search(texts: Path, *rows: dict[str, Any], **near: Any) -> list[dict[str, Any]]:
    keep_out = KeepOut(LeaksConfig().keep_out, ["overlaps", "near"])
    found = list(rows)
    apply_stages([Overlaps(texts, SHARED), Near(texts, NearConfig(**near)), keep_out], found)
    return found
