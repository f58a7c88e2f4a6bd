"""Cut a trie into blocks of neighbouring queries with the same ancestors, for attention that computes node by node."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pipelines.engines.packed.trie import Trie


@dataclass(frozen=True)
class Block:
    """Queries `start` to `stop`, and the pieces of the trie whose keys they see: their ancestors and themselves."""

    start: int
    stop: int
    pieces: tuple[int, ...]
    keys: int

    @property
    def queries(self) -> int:
        """Number of queries; they are the last of the keys."""
        return self.stop - self.start


@dataclass(frozen=True)
class Cut:
    """A trie in blocks of queries and, at least as fine, in pieces of keys; both in order and without gaps."""

    blocks: list[Block]
    pieces: list[int]  # tokens of each

    @property
    def scores(self) -> int:
        """Queries × keys that are computed, masked ones included."""
        return sum(block.queries * block.keys for block in self.blocks)


def cut(tree: Trie, small: int, longest: int) -> Cut:
    """Blocks as large as they can be.

    A block is either a part of the trie of which a dense block has at most `small` scores, or tokens in a row, each of
    which continues the one before. Behind ancestors such a row needs a mask, and half of the square over its own tokens
    is computed to be masked, so there it is cut.

    Args:
        tree: the trie.
        small: queries × keys; 0 for tokens in a row only.
        longest: queries of a row behind ancestors.
    """
    ends = [
        end for start, stop in pairwise([0, *_ends(tree, small)]) for end in _cut_row(tree, start, stop, small, longest)
    ]
    starts = [0, *ends[:-1]]
    # Keys are also cut where a block branches off.
    cuts = sorted({*ends, *(int(tree.parents[start]) + 1 for start in starts)} - {0})
    pieces = list(zip([0, *cuts[:-1]], cuts, strict=True))
    ending = {stop: i for i, (_, stop) in enumerate(pieces)}
    beginning = {start: i for i, (start, _) in enumerate(pieces)}
    blocks = []
    for start, stop in zip(starts, ends, strict=True):
        before: list[int] = []
        parent = int(tree.parents[start])
        while parent >= 0:
            before.append(ending[parent + 1])
            parent = int(tree.parents[pieces[before[-1]][0]])
        own = range(beginning[start], ending[stop] + 1)
        blocks.append(Block(start, stop, (*before[::-1], *own), int(tree.positions[start]) + stop - start))
    return Cut(blocks, [stop - start for start, stop in pieces])


def _ends(tree: Trie, small: int) -> list[int]:
    """Where each block ends."""
    total = len(tree.ids)
    branches = np.flatnonzero(tree.parents != np.arange(total) - 1)
    nodes = sorted({0, *branches.tolist(), *(tree.parents[branches] + 1).tolist()})
    dense, ends, i = [_dense(tree, start, small) for start in nodes], [], 0
    while i < len(nodes):
        if dense[i]:
            end = int(tree.last[nodes[i]])
            while i < len(nodes) and nodes[i] < end:
                i += 1
        else:
            i += 1
            while i < len(nodes) and tree.parents[nodes[i]] == nodes[i] - 1 and not dense[i]:
                i += 1
            end = nodes[i] if i < len(nodes) else total
        ends.append(end)
    return ends


def _cut_row(tree: Trie, start: int, stop: int, small: int, longest: int) -> list[int]:
    """Where a block ends, and before that, if it is a row behind ancestors, where its parts of equal length do."""
    queries, before = stop - start, int(tree.positions[start])
    parts = -(-queries // longest) if before and queries * (before + queries) > small else 1
    return [start + queries * part // parts for part in range(1, parts + 1)]


def _dense(tree: Trie, start: int, small: int) -> bool:
    """Whether all that continues a token, and the token, make one dense block."""
    queries = int(tree.last[start]) - start
    return queries * (int(tree.positions[start]) + queries) <= small
