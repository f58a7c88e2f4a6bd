"""Blocks: every query once, every key that it may see, and no other piece of the trie."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.engines.packed.blocks import Block, cut
from pipelines.engines.packed.trie import build
from tests.engines.packed.tries import SEQUENCES, prefixes, sees


@settings(deadline=None)
@given(SEQUENCES, st.sampled_from([0, 4, 16, 10_000]), st.integers(1, 9))
def test_a_block_has_the_keys_of_its_queries(sequences: list[list[int]], small: int, longest: int) -> None:
    tree = build(sequences)
    made = cut(tree, small, longest)
    places = [q for block in made.blocks for q in range(block.start, block.stop)]
    assert places == list(range(len(tree.ids))) and sum(made.pieces) == len(tree.ids)
    seen = sees(prefixes(tree, sequences))
    ends = [sum(made.pieces[: i + 1]) for i in range(len(made.pieces))]
    for block in made.blocks:
        keys = [k for i in block.pieces for k in range(ends[i] - made.pieces[i], ends[i])]
        assert len(keys) == block.keys and keys[-block.queries :] == list(range(block.start, block.stop))
        before = keys[: -block.queries]
        for query in range(block.start, block.stop):
            assert [k for k in range(block.start) if seen[query][k]] == before
        if block.queries * block.keys > small:
            assert all(tree.parents[q] == q - 1 for q in range(block.start + 1, block.stop))
            assert block.queries <= longest or block.queries == block.keys


def test_a_small_part_of_the_trie_is_one_block() -> None:
    tree = build([[9] * 20 + [i, 8, j] for i in (1, 2) for j in (3, 4)])
    assert [(b.queries, b.keys) for b in cut(tree, 0, 99).blocks] == [(23, 23), (1, 23), (3, 23), (1, 23)]
    assert [(b.queries, b.keys) for b in cut(tree, 4 * 24, 99).blocks] == [(20, 20), (4, 24), (4, 24)]
    assert cut(tree, 28 * 28, 99).blocks == [Block(0, 28, (0,), 28)]


def test_sequences_without_a_branch_are_never_torn() -> None:
    tree = build([[1, 2, 3, 4, 5]])
    assert [(b.start, b.stop) for b in cut(tree, 12, 3).blocks] == [(0, 5)]


def test_a_long_row_behind_ancestors_is_cut_into_equal_parts() -> None:
    tree = build([[1] * 9 + [2], [1] * 9 + [3] * 8])
    assert [(b.start, b.stop, b.keys) for b in cut(tree, 0, 3).blocks] == [
        (0, 10, 10),
        (10, 12, 11),
        (12, 15, 14),
        (15, 18, 17),
    ]
    assert cut(tree, 0, 3).scores == 10 * 10 + 2 * 11 + 3 * 14 + 3 * 17
