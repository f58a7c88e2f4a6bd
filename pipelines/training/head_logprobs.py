"""Log-probabilities of given tokens under a model's head, without all its logits at once.

Logits are float32 wherever they come from a bfloat16 product: rounded to bfloat16 they are off by up to 0.4%, and a
margin of DPO is a small difference of sums of them.

Both passes go through the head a few columns at a time. The forward pass keeps running sums, and of a token's softmax
one number. In the backward pass each row of the weight's gradient is then one product over all tokens, summed in
float32 and written once, where chunks of tokens would read and write the whole gradient for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

Multiply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
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
    multiply: Multiply = torch.matmul,
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
        multiply: two matrices of at least float32.
    """
    kind = hidden.device.type
    half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    dtype = half or torch.promote_types(hidden.dtype, weight.dtype)
    chunk = CHUNK if chunk is None else chunk
    return HeadScores(*_Head.apply(hidden, weight, targets, bias, dtype, chunk, multiply))


class _Head(torch.autograd.Function):
    """Columns in chunks, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        bias: torch.Tensor | None,
        dtype: torch.dtype,
        chunk: int,
        multiply: Multiply,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        with torch.autocast(hidden.device.type, enabled=False):
            rows, found = hidden.to(dtype), None
            for a, b in _slices(len(weight), chunk // max(1, len(rows))):
                part = logits(rows, weight[a:b].to(dtype), None if bias is None else bias[a:b], multiply)
                exponentials, sums = found = _add_chunk(part, targets - a, found and found[1])
        log_total = sums.total.log()
        # What fits into one chunk is not computed again.
        ctx.softmax = exponentials.div_(sums.total[:, None]) if exponentials.shape[1] == len(weight) else None
        ctx.save_for_backward(hidden, weight, targets, bias, sums.highest + log_total)
        ctx.dtype, ctx.chunk, ctx.multiply = dtype, chunk, multiply
        # The largest first: the log of a probability near 1 is then not a difference of large numbers.
        log_probs = sums.at_target - sums.highest - log_total
        entropy, hits = log_total - sums.weighted / sums.total, sums.likeliest
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
                    part = logits(rows, columns, None if bias is None else bias[a:b], ctx.multiply)
                    d_logits = part.sub_(normalizer[:, None]).exp_()
                # Of log p(target): 1 at the target, less the softmax. Without a mask of rows: that would be a sync.
                d_logits.mul_(-by_row)
                inside = ((targets >= a) & (targets < b))[:, None]
                d_logits.scatter_add_(1, (targets - a).clamp(0, b - a - 1)[:, None], by_row * inside)
                if d_bias is not None:
                    d_bias[a:b] = d_logits.sum(0)
                d_logits = d_logits.to(ctx.dtype)
                if d_hidden is not None:
                    d_hidden += product(d_logits, columns, ctx.multiply)
                if d_weight is not None:
                    d_weight[a:b] = product(d_logits.T, rows, ctx.multiply)
        return None if d_hidden is None else d_hidden.to(hidden.dtype), d_weight, None, d_bias, None, None, None


def logits(
    rows: torch.Tensor,
    columns: torch.Tensor,
    bias: torch.Tensor | None,
    multiply: Multiply = torch.matmul,
) -> torch.Tensor:
    """`rows` (T, H) through the head's `columns` (V, H); (T, V)."""
    found = product(rows, columns.T, multiply)
    return found if bias is None else found.add_(bias)


def product(
    a: torch.Tensor,
    b: torch.Tensor,
    multiply: Multiply = torch.matmul,
) -> torch.Tensor:
    """a @ b in at least float32; sums of 16-bit products are not rounded to 16 bits on the way out."""
    if a.element_size() > 2:
        return multiply(a, b)
    # PyTorch has such a product for GPUs only. A product of two 16-bit numbers is exact in float32.
    return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else a.float() @ b.float()


class _Sums(NamedTuple):
    """Over the columns so far, each (T,).

    Attributes:
        highest: logit.
        total: of exp(logit - highest).
        weighted: total of (logit - highest) * exp(logit - highest).
        at_target: logit of the target, 0 if it is in none of the columns.
        likeliest: whether the highest logit is the target's.
    """

    highest: torch.Tensor
    total: torch.Tensor
    weighted: torch.Tensor
    at_target: torch.Tensor
    likeliest: torch.Tensor


def _add_chunk(logits: torch.Tensor, targets: torch.Tensor, before: _Sums | None) -> tuple[torch.Tensor, _Sums]:
    """Exponentials of `logits` (T, V), less the highest so far, and the sums with them. Uses `logits` up.

    Args:
        logits: of some columns.
        targets: (T,), places in these columns, or outside.
        before: the sums of other columns.
    """
    inside = (targets >= 0) & (targets < logits.shape[1])
    highest, place = logits.max(-1)
    likeliest = inside & (place == targets)
    at_target = logits.gather(-1, targets.clamp(0, logits.shape[1] - 1)[:, None])[:, 0] * inside
    if before is not None:
        higher = highest > before.highest
        likeliest = torch.where(higher, likeliest, before.likeliest)
        highest = torch.where(higher, highest, before.highest)
        at_target = at_target + before.at_target
    exponentials = logits.sub_(highest[:, None]).exp()
    total, weighted = exponentials.sum(-1), logits.mul_(exponentials).sum(-1)
    if before is not None:
        less = before.highest - highest
        total = total + before.total * less.exp()
        weighted = weighted + (before.weighted + before.total * less) * less.exp()
    return exponentials, _Sums(highest, total, weighted, at_target, likeliest)


def _slices(total: int, size: int) -> Iterator[tuple[int, int]]:
    """Bounds of one slice, or of slices of at most `size` and whole tiles (one at least)."""
    step = max(TILE, size // TILE * TILE) if size < total else max(1, total)
    for start in range(0, max(1, total), step):
        yield start, min(start + step, total)
