"""Tries: every distinct prefix once, in depth-first order, and one rule that says who sees whom."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings

from pipelines.engines.packed.trie import build, common, key
from tests.engines.packed.tries import SEQUENCES, prefixes, sees


@settings(deadline=None)
@given(SEQUENCES)
def test_every_distinct_prefix_is_there_once_and_every_path_spells_its_sequence(sequences: list[list[int]]) -> None:
    tree = build(sequences)
    assert [tree.ids[path].tolist() for path in tree.paths] == sequences
    found = prefixes(tree, sequences)
    assert len(set(found)) == len(found)
    assert set(found) == {tuple(s[: n + 1]) for s in sequences for n in range(len(s))}
    assert tree.positions.tolist() == [len(prefix) - 1 for prefix in found]
    assert [found[p] if p >= 0 else () for p in tree.parents] == [prefix[:-1] for prefix in found]


@settings(deadline=None)
@given(SEQUENCES)
def test_a_token_sees_its_own_prefix_and_nothing_else(sequences: list[list[int]]) -> None:
    tree = build(sequences)
    place = np.arange(len(tree.ids))
    rule = (place[None, :] <= place[:, None]) & (place[:, None] < tree.last[None, :])
    expected = sees(prefixes(tree, sequences))
    assert rule.tolist() == expected
    assert tree.attended == sum(map(sum, expected))


def test_a_trie_by_hand() -> None:
    tree = build([[5, 6, 7], [5, 6, 8, 9], [4], [5, 6, 7], [5, 6]])
    assert tree.ids.tolist() == [4, 5, 6, 7, 8, 9]
    assert tree.positions.tolist() == [0, 0, 1, 2, 2, 3]
    assert tree.parents.tolist() == [-1, -1, 1, 2, 2, 4]
    assert tree.last.tolist() == [1, 6, 6, 4, 6, 6]
    assert [path.tolist() for path in tree.paths] == [[1, 2, 3], [1, 2, 4, 5], [0], [1, 2, 3], [1, 2]]


def test_nothing_in_common_is_one_sequence_after_the_other() -> None:
    tree = build([[1, 2], [3]])
    assert (tree.ids.tolist(), tree.last.tolist()) == ([1, 2, 3], [2, 2, 3])


@settings(deadline=None)
@given(SEQUENCES)
def test_keys_sort_as_sequences_do(sequences: list[list[int]]) -> None:
    assert sorted(sequences) == sorted(sequences, key=key)
    for a, b in pairwise(sequences):
        n = common(a, b)
        assert a[:n] == b[:n] and (n in (len(a), len(b)) or a[n] != b[n])
