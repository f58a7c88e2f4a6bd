"""Curated pairs with critiques, of which the measures are known by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.records import PAIR

FRUIT = ("apples", "pears", "plums", "figs", "dates", "limes", "kiwis", "melons", "grapes", "mangos")


def pair(number: int, **changes: Any) -> dict[str, Any]:
    """A pair whose chosen critique quotes the response and whose rejected one fits any."""
    fruit = FRUIT[number % len(FRUIT)]
    row = {
        "row_id": f"row-{number:03d}",
        "source": f"source_{number % 5}",
        "task": "pairwise",
        "instruction": "Name a fruit.",
        "context": None,
        "reference": None,
        "rubric": None,
        "responses": [f"The {fruit} ripen in late autumn here", "Stone"],
        "allowed": ["A", "B"],
        "verdict": "A",
        "rejected_verdict": "B",
        "chosen_critique": f"Naming {fruit} that ripen in late autumn is right, and case {number} shows it.",
        "rejected_critique": "The reply is clear, helpful and well written overall.",
        "generator": "none",
        "format": "cot",
        "status": "ok",
    }
    return row | changes


def write(out: Path, rows: list[dict[str, Any]]) -> Path:
    """Curated pairs of a run."""
    folder = out / "curated" / "data"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=PAIR), folder / "part-0.parquet")
    return folder
