"""The needs of a run in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from pipelines.experiments.needs.needs import Need


def shown(needs: Sequence[Need]) -> list[str]:
    """A heading for each kind, and a line for each need: name, where it comes from, what uses it."""
    lines = []
    for kind, group in groupby(needs, key=lambda need: need.kind):
        lines.append(f"{kind}s:")
        lines += [f"  {need.name} | {need.origin} | {need.what}" for need in group]
    return lines
