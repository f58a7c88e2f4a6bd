"""FlexAttention's mask of a trie against the one the library makes from the rule alone, and its forward pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.engines.packed import flex
from pipelines.engines.packed.tree_attention import visible
from pipelines.engines.packed.trie import Trie, build
from tests.engines.packed.reference import LONG, PAIRS, Sequences, by_hand, qkv
from tests.engines.packed.tries import SEQUENCES, prefixes, sees

CPU = torch.device("cpu")
MANY = [[1] * 90 + [2] * 90 + [i] * 60 for i in range(3, 9)]  # 540 tokens: whole blocks, parts and blocks not seen


def by_library(tree: Trie) -> Any:
    """From a boolean for each query and key."""
    from torch.nn.attention.flex_attention import create_block_mask

    last, total = torch.from_numpy(tree.last), len(tree.last)
    return create_block_mask(lambda b, h, q, k: visible(last, q, k), None, None, total, total, device="cpu")


def blocks(mask: Any) -> list[Any]:
    """For each block of queries, which of keys are seen whole and in part."""
    counts = (mask.full_kv_num_blocks, mask.full_kv_indices), (mask.kv_num_blocks, mask.kv_indices)
    return [
        [sorted(order[0, 0, i, :n].tolist()) for i, n in enumerate(count[0, 0].tolist())] for count, order in counts
    ]


@pytest.mark.parametrize("sequences", [PAIRS, LONG, MANY], ids=["one block", "two blocks", "five blocks"])
def test_the_blocks_are_those_of_the_library(sequences: Sequences) -> None:
    tree = build(sequences)
    found, right = flex.block_mask(tree, CPU), by_library(tree)
    assert blocks(found) == blocks(right)
    assert found.seq_lengths == right.seq_lengths and found.shape == right.shape


def test_of_many_blocks_some_are_whole_and_some_are_not_seen() -> None:
    """Or the test above would say little."""
    whole, some = flex.blocks_seen(build(MANY))
    assert whole.sum() and (~whole & ~some)[torch.ones(len(whole), len(whole), dtype=torch.bool).tril().numpy()].sum()


@settings(max_examples=20, deadline=None)
@given(SEQUENCES, st.sampled_from([1, 2, 3]))
def test_the_blocks_of_any_trie(sequences: Sequences, size: int) -> None:
    tree = build(sequences)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flex, "BLOCK", size)
        whole, some = flex.blocks_seen(tree)
    right, total = sees(prefixes(tree, sequences)), len(tree.ids)
    for i in range(0, total, size):
        for j in range(0, total, size):
            seen = [right[q][k] for q in range(i, min(i + size, total)) for k in range(j, min(j + size, total))]
            # A block on the diagonal, or not filled, is a part even where all of it is seen.
            part = i == j or i + size > total
            assert whole[i // size, j // size] == (all(seen) and not part)
            assert some[i // size, j // size] == (any(seen) and (part or not all(seen)))


def test_the_rule_is_the_definition() -> None:
    from torch.nn.attention.flex_attention import create_mask

    tree = build(PAIRS)
    rule, length = flex.block_mask(tree, CPU).mask_mod, len(tree.ids)
    found = create_mask(rule, None, None, length, length, device="cpu")[0, 0]
    assert found.tolist() == sees(prefixes(tree, PAIRS))


def test_the_mask_holds_no_64_bit_numbers() -> None:
    """Nor does its rule, which reads them in every block that is seen in part."""
    mask = flex.block_mask(build(LONG), CPU)
    read = [cell.cell_contents for cell in mask.mask_mod.__closure__]
    tensors = [each for each in (*mask.as_tuple(), *read) if isinstance(each, torch.Tensor)]
    assert any(each is tensor for each in read for tensor in tensors)
    assert {tensor.dtype for tensor in tensors} == {torch.int32}


@pytest.mark.parametrize("more", [{"dropout": 0.1}, {"softcap": 30.0}, {"s_aux": 1}, {"position_bias": 1}])
def test_what_a_layer_asks_for_and_it_cannot_do_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(more))):
        flex.flex_attention(SimpleNamespace(), *qkv(6), None, **more)


def test_the_library_is_handed_the_mask_and_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel itself needs a compiler, and on a CPU has no backward pass."""
    asked: dict[str, Any] = {}

    def forward(module: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: Any, scaling: float) -> Any:
        asked.update(types={x.dtype for x in (q, k, v)}, scaling=scaling)
        seen = [
            [bool(mask.mask_mod(0, 0, torch.tensor(i), torch.tensor(j))) for j in range(len(q[0, 0]))]
            for i in range(len(q[0, 0]))
        ]
        return by_hand(q.double(), k.double(), v.double(), seen), None

    monkeypatch.setattr("transformers.integrations.flex_attention.flex_attention_forward", forward)
    tree = build(PAIRS)
    q, k, v = (x.detach().float() for x in qkv(len(tree.ids)))
    with torch.autocast("cpu", torch.bfloat16):
        out, _ = flex.flex_attention(SimpleNamespace(), q, k, v.bfloat16(), flex.block_mask(tree, CPU), 0.5)
    assert asked == {"types": {torch.bfloat16}, "scaling": 0.5}
    assert out.shape == (1, len(tree.ids), 4, 8)
