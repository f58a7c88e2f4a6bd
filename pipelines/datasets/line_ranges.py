"""The lines that begin in a range of a file's bytes: ranges that lie side by side have each line once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

STRIDE = 1 << 20  # bytes held at once of a line that belongs to the range before


def lines_between(raw: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """The lines of a file whose first byte lies in a range, each with its line end; the last may reach beyond it.

    Args:
        raw: the file, which can be sought.
        start: first byte of the range.
        end: the byte behind it.
    """
    at = start
    if start:
        # From one byte before: where that ends a line, the range begins with a whole one.
        raw.seek(start - 1)
        at = start - 1 + _rest_of_line(raw)
    while at < end and (line := raw.readline()):
        at += len(line)
        yield line


def _rest_of_line(raw: BinaryIO) -> int:
    length = 0
    while piece := raw.readline(STRIDE):
        length += len(piece)
        if piece.endswith(b"\n"):
            break
    return length
