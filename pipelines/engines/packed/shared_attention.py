"""Attention over packed pairs: both completions of a pair see its prompt, neither sees the other.

Used for training, and for reward scores of two responses to one prompt; a pair may lack its second completion.

`split` computes pair by pair: nothing between pairs, nor between the two completions of one. `flex` compiles one kernel
that skips masked blocks, for GPUs. `mask` gives a dense mask to any attention that takes one: work and memory grow with
the square of the packed sequence, so it is the fallback and the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from pipelines.engines.packed.packing import Span

NAME = "shared_prompt"  # in transformers' registry of attention functions
# Tokens of a pair up to which plain matrix products beat the fused kernel on a CPU, whose backward pass handles
# short sequences badly: 2.2 ms against 4.2 ms at 130 tokens, 33 against 28 at 600 (docs/performance.md).
SHORT = 256


@dataclass
class Layout:
    """How a packed sequence is cut; made once, used by every layer of a forward pass.

    Attributes:
        spans: the pairs.
        masks: per pair, who sees whom: all its tokens (t, t) if the pair is computed at once, otherwise the rejected
            tokens over [prompt, rejected] (r, p + r).
    """

    spans: Sequence[Span]
    masks: Sequence[torch.Tensor]


def layout(spans: Sequence[Span], device: torch.device) -> Layout:
    """The layout of some spans, with its masks on `device`."""
    return Layout(spans, [pair_mask(s, device) if at_once(s, device) else rejected_mask(s, device) for s in spans])


def at_once(span: Span, device: torch.device) -> bool:
    """Whether a pair is computed as one small dense block."""
    return device.type == "cpu" and span.tokens <= SHORT


def rejected_mask(span: Span, device: torch.device) -> torch.Tensor:
    """(r, p + r): each rejected token sees the prompt and the rejected tokens up to itself."""
    seen = torch.ones(span.rejected, span.prompt + span.rejected, dtype=torch.bool, device=device)
    return seen.tril(span.prompt)


def pair_mask(span: Span, device: torch.device) -> torch.Tensor:
    """(t, t): causal, and the chosen tokens hidden from the rejected ones."""
    seen = torch.ones(span.tokens, span.tokens, dtype=torch.bool, device=device).tril()
    seen[span.prompt + span.chosen :, span.prompt : span.prompt + span.chosen] = False
    return seen


def split_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    pairs: Layout | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of packed pairs without any work between pairs.

    Args:
        module: the attention layer.
        query: (1, H, T, D).
        key: (1, H_kv, T, D).
        value: (1, H_kv, T, D).
        attention_mask: not used; `pairs` says who sees whom.
        scaling: of the scores; None means 1/√D.
        dropout: of the attention weights; must be 0.
        pairs: the layout; None means one ordinary causal sequence.

    Returns:
        (1, T, H, D) and None, as transformers expects.

    Raises:
        ValueError: the layer has dropout, or a sliding window shorter than a pair.
    """
    if dropout:
        raise ValueError("attention dropout is not implemented: use train.engine: trl")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if pairs is None:
        return fused(query, key, value, scale, None).transpose(1, 2), None
    window = getattr(module, "sliding_window", None)
    if window is not None and window < max(s.prompt + max(s.chosen, s.rejected) for s in pairs.spans):
        raise ValueError(f"a sliding window of {window} tokens is shorter than a pair: use train.engine: trl")
    # One split, whose backward pass is one concatenation; slices would each add into a whole zero tensor.
    sizes = [s.tokens for s in pairs.spans]
    parts = []
    for span, mask, q, k, v in zip(
        pairs.spans, pairs.masks, *(x.split(sizes, dim=2) for x in (query, key, value)), strict=True
    ):
        if mask.shape[0] == mask.shape[1]:
            parts.append(plain(q, k, v, scale, mask))
            continue
        if not span.rejected:
            parts.append(fused(q, k, v, scale, None))
            continue
        pieces = (span.prompt, span.chosen, span.rejected)
        (q_p, q_c, q_r), (k_p, k_c, k_r), (v_p, v_c, v_r) = (x.split(pieces, dim=2) for x in (q, k, v))
        parts.append(fused(_join(q_p, q_c), _join(k_p, k_c), _join(v_p, v_c), scale, None))
        parts.append(fused(q_r, _join(k_p, k_r), _join(v_p, v_r), scale, mask))
    return torch.cat(parts, dim=2).transpose(1, 2), None


def fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor | None
) -> torch.Tensor:
    """PyTorch's fused attention, causal where no mask is given; (1, H, T, D)."""
    grouped = key.shape[1] != query.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=grouped
    )


def plain(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor
) -> torch.Tensor:
    """Attention of one short block by matrix products, softmax in float32; (1, H, T, D)."""
    batch, heads, length, width = query.shape
    groups = key.shape[1]
    query = query.reshape(batch, groups, -1, width)  # the query heads of one key head, one below the other
    scores = (query @ key.transpose(-1, -2)).view(batch, groups, -1, *mask.shape) * scale
    weights = scores.float().masked_fill(~mask, -torch.inf).softmax(-1).to(value.dtype)
    return (weights.view(batch, groups, -1, length) @ value).view(batch, heads, length, width)


def _join(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch.cat([a, b], dim=2)


def register() -> str:
    """Make `split_attention` known to transformers; returns its name for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, split_attention)
    return NAME


def visible(spans: Sequence[Span]) -> tuple[torch.Tensor, torch.Tensor]:
    """What decides who sees whom: of each token its pair (T,), and its part (T,): 0 prompt, 1 chosen, 2 rejected."""
    pair = torch.cat([torch.full((s.tokens,), i) for i, s in enumerate(spans)])
    part = torch.cat([torch.tensor([0] * s.prompt + [1] * s.chosen + [2] * s.rejected) for s in spans])
    return pair, part


def dense_mask(spans: Sequence[Span], device: torch.device) -> torch.Tensor:
    """(1, 1, T, T), true where a query (row) sees a key (column)."""
    pair, part = (t.to(device) for t in visible(spans))
    same = pair[:, None] == pair[None, :]
    allowed = (part[None, :] == 0) | (part[:, None] == part[None, :])
    return (same & allowed).tril()[None, None]


def block_mask(spans: Sequence[Span], device: torch.device) -> Any:
    """The same as a FlexAttention BlockMask."""
    from torch.nn.attention.flex_attention import create_block_mask

    pair, part = (t.to(device) for t in visible(spans))

    def sees(batch: Any, head: Any, q: Any, k: Any) -> Any:
        return (q >= k) & (pair[q] == pair[k]) & ((part[k] == 0) | (part[q] == part[k]))

    total = len(pair)
    return create_block_mask(sees, None, None, total, total, device=str(device))
