"""A piece of a big input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A piece of an input, which a task reads by itself (`datasets/parts.py`).

    Attributes:
        start: first byte, row group or shard.
        end: the one behind it.
        records: in it; None where that is not known yet.
        first: number of its first record in the whole input.
        line: number of the first line that begins in it.
    """

    start: int
    end: int
    records: int | None = None
    first: int = 0
    line: int = 1
