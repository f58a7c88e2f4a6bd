"""At most so many rows of a source, chosen by hash before any critique is paid for."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow.compute as pc

from pipelines.core import storage
from pipelines.core.determinism import unit
from pipelines.core.records import OK, Row
from pipelines.core.stage import Filter, apply_stages
from pipelines.core.storage import Place


class SourceCap(Filter):
    """Keeps at most `caps[source]` rows of a source: those with the smallest hash.

    Args:
        caps: source -> most rows.
        seed: of the hash.
        after: the filters before it in its segment: only rows that they keep count.
    """

    name = "cap"
    reads = ("source", "row_id")

    def __init__(self, caps: Mapping[str, int], seed: int, after: Sequence[Filter] = ()) -> None:
        self.caps, self.seed, self.after = dict(caps), seed, list(after)
        self.limits: dict[str, float] = {}

    def depends(self) -> dict[str, Any]:
        return {"caps": self.caps, "seed": self.seed}

    def open(self, source: Place) -> None:
        """Find the largest hash that stays in each source (memory: the caps, not the rows)."""
        for name, cap in self.caps.items():
            smallest = heapq.nsmallest(cap, self._hashes(source, name))
            self.limits[name] = smallest[-1] if smallest else -1.0

    def reason(self, row: Row) -> str | None:
        if row["source"] not in self.caps:
            return None
        return "over_cap" if unit(self.seed, "cap", row["row_id"]) > self.limits[row["source"]] else None

    def _hashes(self, rows: Place, source: str) -> Iterator[float]:
        columns = {"row_id", "status"}.union(*(stage.reads for stage in self.after))
        wanted = (pc.field("source") == source) & (pc.field("status") == OK)
        for batch in storage.read_batches(rows, sorted(columns), keep=wanted):
            found = batch.to_pylist()
            apply_stages(self.after, found)
            yield from (unit(self.seed, "cap", row["row_id"]) for row in found if row["status"] == OK)
