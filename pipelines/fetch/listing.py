"""The list of what a run reads, for `--dry-run`."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.fetch.pins import Pins
from pipelines.fetch.wanted import Wanted


def listing(needed: Sequence[Wanted], pins: Pins) -> list[str]:
    """A line for each file: where it goes, its size, where it comes from, for which source, under which licence."""
    lines = []
    for one in needed:
        why = (one.by_hand and f"by hand: {one.by_hand}") or f"NOT PINNED: {pins.unpinned.get(one.place, 'new')}"
        rows = [
            (name, f"{pin.bytes:,} bytes", f"{pin.url} sha256 {pin.sha256[:12]}")
            for name, pin in pins.of(one.place).items()
        ]
        address = one.url or (f"hub dataset {one.hub.id}" if one.hub else "")
        for place, size, origin in rows or [(one.place, "size unknown", f"{address} {why}".strip())]:
            lines.append(f"{place} | {size} | {one.source} ({one.license}) | {origin}")
    return lines
