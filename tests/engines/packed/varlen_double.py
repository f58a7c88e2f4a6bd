"""A TEST DOUBLE of PyTorch's varlen_attn, for machines without a GPU: the same maths, one sequence after the other.

It stands for the kernel's documented behaviour (a window of (-1, 0) is causal, aligned at the end), so it proves the
places and the maths around the kernel, and nothing about the kernel itself.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def varlen_attn(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
) -> torch.Tensor:
    """(T, H, D) from queries (T, H, D), keys and values (K, H_kv, D), and where each sequence's end."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32, "the kernel takes no other offsets"
    assert window_size == (-1, 0), "no other window is imitated"
    queries, keys = (cu.diff().tolist() for cu in (cu_seq_q, cu_seq_k))
    assert (max(queries), max(keys)) == (max_q, max_k), "the kernel leaves out what is longer"
    assert (sum(queries), sum(keys)) == (len(query), len(key)) and len(value) == len(key)
    parts = []
    for q, k, v in zip(query.split(queries), key.split(keys), value.split(keys), strict=True):
        seen = torch.ones(len(q), len(k), dtype=torch.bool, device=q.device).tril(len(k) - len(q))
        one = F.scaled_dot_product_attention(
            *(x.transpose(0, 1)[None] for x in (q, k, v)), attn_mask=seen, scale=scale, enable_gqa=enable_gqa
        )
        parts.append(one[0].transpose(0, 1))
    return torch.cat(parts)
