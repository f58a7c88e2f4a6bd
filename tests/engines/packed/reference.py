"""Attention over a packed trie by its definition, and sequences to try it on."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from pipelines.engines.packed.trie import build
from tests.engines.packed.tries import prefixes, sees

Sequences = list[list[int]]
# Two pairs of one template, one whose completions begin alike, and one that shares nothing.
PAIRS = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 6, 7], [1, 2, 8, 9], [1, 2, 8, 7], [4, 4, 4, 1, 2], [4, 4, 4, 1, 3]]
LONG = [[1] * 90 + [2] * 90 + [3] * 40, [1] * 90 + [2] * 90 + [4] * 60, [1] * 90 + [5, 6, 5], [7, 7]]


def qkv(length: int, heads: int = 4, groups: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, n, length, 8, generator=generator, dtype=torch.float64).requires_grad_()
        for n in (heads, groups, groups)
    ]


def by_hand(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: list[list[bool]]) -> torch.Tensor:
    """(1, T, H, D), with scores of all queries and keys."""
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return (scores.masked_fill(~torch.tensor(seen), -math.inf).softmax(-1) @ v).transpose(1, 2)


def check(attention: Callable[..., torch.Tensor], sequences: Sequences) -> None:
    """The attention of a trie, (1, T, H, D) of q, k and v and `tree`, and its gradients are those of the definition."""
    tree = build(sequences)
    inputs = qkv(len(tree.ids))
    out = attention(*inputs, tree=tree)
    expected = by_hand(*inputs, sees(prefixes(tree, sequences)))
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    weights = torch.randn(out.shape, dtype=torch.float64)
    ours = torch.autograd.grad((out * weights).sum(), inputs)
    theirs = torch.autograd.grad((expected * weights).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
