"""Which implementation of attention over a packed trie a device gets; see `backends`. Imports no engine."""

from __future__ import annotations

from typing import Literal

Backend = Literal["split", "varlen", "flex", "mask"]


def choose(gpu: bool, half: bool) -> Backend:
    """The quickest of a device; for GPUs by arithmetic only (docs/performance.md).

    Args:
        gpu: whether the device is one.
        half: whether it computes in 16 bits, all that `varlen`'s kernel does.
    """
    if not gpu:
        return "split"
    return "varlen" if half else "flex"
