"""Log-probabilities of given tokens under a model's head, without all its logits at once.

Logits are float32 wherever they come from a bfloat16 product: rounded to bfloat16 they are off by up to 0.4%, and a
margin of DPO is a small difference of sums of them.

The forward pass goes through the head a few rows at a time, and keeps a row's softmax as one number. The backward pass
goes through it a few columns at a time: then each row of the weight's gradient is one product over all tokens, summed
in float32 and written once, where chunks of rows would read and write the whole gradient for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

CHUNK = 2**25  # logits of a chunk: 128 MiB in float32, and as much again for their softmax
TILE = 128  # rows and columns that a GPU's matrix product computes together: half-filled tiles are waste


class HeadScores(NamedTuple):
    """Of each token.

    Attributes:
        log_probs: (T,), of the target, float32; the only one with a gradient.
        entropy: (T,), nats, float32.
        hits: (T,), whether the target is the likeliest token.
    """

    log_probs: torch.Tensor
    entropy: torch.Tensor
    hits: torch.Tensor


def head_scores(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    bias: torch.Tensor | None = None,
    chunk: int | None = None,
) -> HeadScores:
    """Log-softmax of `hidden @ weight.T + bias` at the targets, and what is logged beside it.

    The product is computed in autocast's type, or else in that of the tensors; all that follows in float32 (float64
    if the tensors are). The weight is read as it is: no module is called, so every rank of a sharded model does the
    same, however many tokens it has.

    Args:
        hidden: (T, H).
        weight: (V, H), whole.
        targets: (T,), token ids.
        bias: (V,), or None.
        chunk: logits of a chunk, in the forward and in the backward pass; None means CHUNK.
    """
    kind = hidden.device.type
    half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    dtype = half or torch.promote_types(hidden.dtype, weight.dtype)
    return HeadScores(*_Head.apply(hidden, weight, targets, bias, dtype, CHUNK if chunk is None else chunk))


class _Head(torch.autograd.Function):
    """Row chunks forward, column chunks backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        chunk: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with torch.autocast(hidden.device.type, enabled=False):
            rows, columns = hidden.to(dtype), weight.to(dtype)
            parts = []
            for a, b in _slices(len(rows), chunk // len(weight)):
                *part, softmax = _forward_chunk(logits(rows[a:b], columns, bias), targets[a:b])
                parts.append(part)
            log_probs, entropy, hits, normalizer = (torch.cat(column) for column in zip(*parts, strict=True))
        # What fits into one chunk is not computed again.
        ctx.softmax = softmax if len(parts) == 1 else None
        ctx.save_for_backward(hidden, weight, targets, bias, normalizer)
        ctx.dtype, ctx.chunk = dtype, chunk
        ctx.mark_non_differentiable(entropy, hits)
        return log_probs, entropy, hits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor, *_: Any) -> tuple[torch.Tensor | None, ...]:
        hidden, weight, targets, bias, normalizer = ctx.saved_tensors
        for_hidden, for_weight, _, for_bias, *_ = ctx.needs_input_grad
        with torch.autocast(hidden.device.type, enabled=False):
            rows, by_row = hidden.to(ctx.dtype), gradient[:, None]
            d_hidden = hidden.new_zeros(hidden.shape, dtype=normalizer.dtype) if for_hidden else None
            d_weight = torch.empty_like(weight) if for_weight else None
            d_bias = torch.empty_like(bias) if for_bias else None
            whole = ctx.softmax is not None
            for a, b in _slices(len(weight), len(weight) if whole else ctx.chunk // max(1, len(rows))):
                columns = weight[a:b].to(ctx.dtype)
                if whole:
                    d_logits, ctx.softmax = ctx.softmax, None
                else:
                    part = logits(rows, columns, None if bias is None else bias[a:b])
                    d_logits = part.sub_(normalizer[:, None]).exp_()
                # Of log p(target): 1 at the target, less the softmax. Without a mask of rows: that would be a sync.
                d_logits.mul_(-by_row)
                inside = ((targets >= a) & (targets < b))[:, None]
                d_logits.scatter_add_(1, (targets - a).clamp(0, b - a - 1)[:, None], by_row * inside)
                if d_bias is not None:
                    d_bias[a:b] = d_logits.sum(0)
                d_logits = d_logits.to(ctx.dtype)
                if d_hidden is not None:
                    d_hidden += product(d_logits, columns)
                if d_weight is not None:
                    d_weight[a:b] = product(d_logits.T, rows)
        return None if d_hidden is None else d_hidden.to(hidden.dtype), d_weight, None, d_bias, None, None


def logits(rows: torch.Tensor, columns: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`rows` (T, H) through the head's `columns` (V, H); (T, V)."""
    found = product(rows, columns.T)
    return found if bias is None else found.add_(bias)


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b in at least float32; sums of 16-bit products are not rounded to 16 bits on the way out."""
    if a.element_size() > 2:
        return a @ b
    # PyTorch has such a product for GPUs only. A product of two 16-bit numbers is exact in float32.
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()


def _forward_chunk(logits: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Log-probability, entropy, hit and log of the sum of exponentials (T,); softmax (T, V). Uses `logits` up."""
    highest, likeliest = logits.max(-1)
    # The largest first: the log of a probability near 1 is then not a difference of large numbers.
    shifted = logits.sub_(highest[:, None])
    at_target = shifted.gather(-1, targets[:, None])[:, 0]
    softmax = shifted.exp()
    total = softmax.sum(-1)
    softmax.div_(total[:, None])
    log_total = total.log()
    entropy = log_total - shifted.mul_(softmax).sum(-1)
    return at_target - log_total, entropy, likeliest == targets, highest + log_total, softmax


def _slices(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Bounds of one slice, or of slices of at most `size` and whole tiles (one at least)."""
    step = max(TILE, size // TILE * TILE) if size < total else max(1, total)
    for start in range(0, max(1, total), step):
        yield start, min(start + step, total)
