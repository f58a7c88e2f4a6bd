"""Sequences of tokens as a trie in depth-first order: what several of them begin with is there once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tokens = Sequence[int] | NDArray[np.integer]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Trie:
    """Distinct tokens one after the other; token q sees token k exactly when `k <= q < last[k]`.

    Attributes:
        ids: (T,), token ids.
        positions: (T,), how many tokens come before each in its own sequences.
        parents: (T,), place of the token before, or -1.
        last: (T,), place after the last token that continues this one.
        paths: for each sequence, in the order they were given, the places of its tokens.
    """

    ids: Places
    positions: Places
    parents: Places
    last: Places
    paths: list[Places]

    @property
    def attended(self) -> int:
        """Pairs of a query and a key that it sees."""
        return int((self.positions + 1).sum())


def build(sequences: Sequence[Tokens]) -> Trie:
    """The trie of some sequences, none of them empty."""
    arrays = [np.asarray(tokens, np.int64) for tokens in sequences]
    keys = [key(array) for array in arrays]
    total = sum(len(array) for array in arrays)
    ids, positions, parents, last = (np.empty(total, np.int64) for _ in range(4))
    paths: list[Places] = [np.empty(0, np.int64)] * len(arrays)
    place, before, path = 0, np.empty(0, np.int64), np.empty(0, np.int64)
    # In sorted order, all that a sequence has in common with any before it, it has in common with its neighbour.
    for i in sorted(range(len(arrays)), key=lambda i: keys[i]):
        tokens = arrays[i]
        shared = common(before, tokens)
        stop = place + len(tokens) - shared
        last[path[shared:]] = place
        new = np.arange(place, stop)
        ids[place:stop], positions[place:stop], parents[place:stop] = tokens[shared:], new - place + shared, new - 1
        if stop > place:
            parents[place] = path[shared - 1] if shared else -1
        before, path, place = tokens, np.concatenate([path[:shared], new]), stop
        paths[i] = path
    last[path] = place
    return Trie(ids[:place], positions[:place], parents[:place], last[:place], paths)


def key(tokens: Tokens) -> bytes:
    """Bytes that sort as the tokens do."""
    return np.asarray(tokens).astype(">u4").tobytes()


def common(a: Tokens, b: Tokens) -> int:
    """How many tokens two sequences begin with in common."""
    n = min(len(a), len(b))
    different = np.flatnonzero(np.asarray(a)[:n] != np.asarray(b)[:n])
    return int(different[0]) if len(different) else n
