"""At most so many rows of a source, chosen by hash before any critique is paid for."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pyarrow.compute as pc

from pipelines.core import storage
from pipelines.core.determinism import unit
from pipelines.core.errors import UserError
from pipelines.core.records import OK, Row
from pipelines.core.stage import Filter
from pipelines.core.storage import Place


class SourceCap(Filter):
    """Keeps at most `caps[source]` rows of a source: those with the smallest hash.

    It is the first stage of its segment, so that only rows that the filters before the segment keep count.

    Args:
        caps: source -> most rows.
        seed: of the hash.
    """

    name = "cap"
    reads = ("source", "row_id")

    def __init__(self, caps: Mapping[str, int], seed: int) -> None:
        self.caps, self.seed = dict(caps), seed
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
        wanted = (pc.field("source") == source) & (pc.field("status") == OK)
        for batch in storage.read_batches(rows, ["row_id"], keep=wanted):
            yield from (unit(self.seed, "cap", name) for name in batch["row_id"].to_pylist())


def check_caps(caps: Mapping[str, int], sources: Collection[str]) -> None:
    """Check that `curation.mix.caps` names sources that are read.

    Raises:
        UserError: one is not.
    """
    for source in caps:
        if source not in sources:
            raise UserError("no such source", where=f"curation.mix.caps.{source}", fix=f"known: {', '.join(sources)}")
