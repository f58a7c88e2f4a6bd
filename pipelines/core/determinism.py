"""Random choices as functions of hash(seed, purpose, row_id), never of batch, actor, block or order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")
# Made once: json.dumps with these settings would make one for every call.
_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def digest(*parts: Any, size: int = 16) -> str:
    """Hex digest of `size` bytes over the canonical JSON of the parts; stable across machines and runs."""
    text = _CANONICAL.encode(parts)
    # 'surrogatepass' so that a row with broken Unicode still gets an id, and can be quarantined under it.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()


def unit(seed: int, purpose: str, row_id: str) -> float:
    """A uniform number in [0, 1) that depends on (seed, purpose, row_id) only."""
    return int(digest(seed, purpose, row_id, size=8), 16) / 2**64


def choose(options: Sequence[T], seed: int, purpose: str, row_id: str) -> T:
    """One of the options, uniformly.

    Raises:
        ValueError: there is nothing to choose from.
    """
    if not options:
        raise ValueError("nothing to choose from")
    return options[int(unit(seed, purpose, row_id) * len(options))]


def integer(seed: int, purpose: str, row_id: str, bits: int = 31) -> int:
    """A non-negative integer below 2**bits, for a sampling seed."""
    return int(digest(seed, purpose, row_id, size=8), 16) % 2**bits
