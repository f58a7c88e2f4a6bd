"""Attention over packed pairs: every implementation against one written down token by token."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from pipelines.engines.packed import shared_attention as attention
from pipelines.engines.packed.packing import Span

CPU = torch.device("cpu")
SPANS = [Span(0, 5, 3, 2), Span(10, 1, 4, 6), Span(21, 7, 1, 1)]
LONG = [Span(0, 180, 40, 60), Span(280, 3, 2, 2)]


def qkv(length: int, heads: int = 4, groups: int = 2) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(1, n, length, 8, generator=generator, dtype=torch.float64).requires_grad_()
        for n in (heads, groups, groups)
    ]


def sees(spans: list[Span], query: int, key: int) -> bool:
    """Who sees whom, from the definition."""
    for span in spans:
        tokens = range(span.start, span.start + span.tokens)
        if query in tokens:
            chosen = range(span.start + span.prompt, span.start + span.prompt + span.chosen)
            rejected = range(chosen.stop, chosen.stop + span.rejected)
            return key in tokens and key <= query and not (query in rejected and key in chosen)
    raise AssertionError(query)


def by_hand(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, spans: list[Span]) -> torch.Tensor:
    """(1, T, H, D), one query at a time."""
    length, repeat = q.shape[2], q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    rows = []
    for i in range(length):
        keys = [j for j in range(length) if sees(spans, i, j)]
        weights = (q[:, :, i : i + 1] @ k[:, :, keys].transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        rows.append(weights @ v[:, :, keys])
    return torch.cat(rows, 2).transpose(1, 2)


@pytest.mark.parametrize("short", [0, 256], ids=["fused", "plain"])
@pytest.mark.parametrize("spans", [SPANS, LONG], ids=["small", "long"])
def test_split_attention_and_its_gradients(short: int, spans: list[Span], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SHORT", short)
    inputs = qkv(spans[-1].start + spans[-1].tokens)
    out, _ = attention.split_attention(SimpleNamespace(), *inputs, None, pairs=attention.layout(spans, CPU))
    expected = by_hand(*inputs, spans)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    weights = torch.randn(out.shape, dtype=torch.float64)
    ours = torch.autograd.grad((out * weights).sum(), inputs)
    theirs = torch.autograd.grad((expected * weights).sum(), inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_the_dense_mask_is_the_definition() -> None:
    mask = attention.dense_mask(SPANS, CPU)[0, 0]
    length = len(mask)
    assert mask.tolist() == [[sees(SPANS, i, j) for j in range(length)] for i in range(length)]


def test_the_block_mask_is_the_definition() -> None:
    from torch.nn.attention.flex_attention import create_mask

    spans, length = SPANS, 30
    rule = attention.block_mask(spans, CPU).mask_mod
    found = create_mask(rule, None, None, length, length, device="cpu")[0, 0]
    assert found.tolist() == attention.dense_mask(spans, CPU)[0, 0].tolist()


def test_without_pairs_it_is_causal_attention() -> None:
    q, k, v = qkv(6)
    out, _ = attention.split_attention(SimpleNamespace(), q, k, v, None)
    torch.testing.assert_close(out, by_hand(q, k, v, [Span(0, 6, 0, 0)]))


def test_what_it_cannot_do_is_refused() -> None:
    q, k, v = qkv(30)
    pairs = attention.layout(SPANS, CPU)
    with pytest.raises(ValueError, match="dropout"):
        attention.split_attention(SimpleNamespace(), q, k, v, None, dropout=0.1, pairs=pairs)
    with pytest.raises(ValueError, match="sliding window of 7"):
        attention.split_attention(SimpleNamespace(sliding_window=7), q, k, v, None, pairs=pairs)
