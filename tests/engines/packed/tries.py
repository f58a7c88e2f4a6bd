"""Random tries, and who sees whom in them, from the sequences alone."""

from __future__ import annotations

from hypothesis import strategies as st

from pipelines.engines.packed.trie import Trie

# Few different tokens, so that much is shared; some that take more than one byte.
SEQUENCES = st.lists(st.lists(st.sampled_from([0, 1, 256, 70_000]), min_size=1, max_size=8), min_size=1, max_size=10)


def prefixes(tree: Trie, sequences: list[list[int]]) -> list[tuple[int, ...]]:
    """For each place of a trie, the tokens up to it."""
    found: dict[int, tuple[int, ...]] = {}
    for sequence, path in zip(sequences, tree.paths, strict=True):
        for depth, place in enumerate(path.tolist()):
            assert found.setdefault(place, tuple(sequence[: depth + 1])) == tuple(sequence[: depth + 1])
    return [found[place] for place in range(len(tree.ids))]


def sees(prefixes: list[tuple[int, ...]]) -> list[list[bool]]:
    """Who (row) sees whom (column): those whose prefix one's own begins with."""
    return [[query[: len(key)] == key for key in prefixes] for query in prefixes]
