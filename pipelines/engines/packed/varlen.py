"""Attention over a packed trie through PyTorch's kernel for sequences of unequal lengths, for GPUs.

Node by node: the queries of a row of tokens against the keys of the path to its end. The kernel's causal mask is
aligned at the end when there are fewer queries than keys, which is then exactly the rule. Nothing is compiled, no mask
exists, and one call does all rows of a bin. Not proven on a GPU.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch.nn.attention.varlen import varlen_attn

from pipelines.engines.packed.blocks import cut
from pipelines.engines.packed.tree_attention import fused, refuse_more
from pipelines.engines.packed.trie import Trie

NAME = "prefix_tree_varlen"
CAUSAL = (-1, 0)  # window: all before, none after


class Rows:
    """The rows of a trie as sequences of their own; made once, used by every layer of a forward pass.

    No dataclass: FSDP takes those apart that it finds among a layer's arguments, and makes new ones.

    Attributes:
        keys: (K,), places of the keys that each row sees, row after row; the queries are all tokens in order.
        query_ends: (N + 1,), int32, where each row's queries end.
        key_ends: (N + 1,), int32, where each row's keys end.
        most_queries: of a row.
        most_keys: of a row.
        calls: how many layers have used it.
    """

    def __init__(self, tree: Trie, device: torch.device) -> None:
        found = cut(tree, small=0, longest=len(tree.ids))
        ends = list(accumulate(found.pieces))
        places = [np.arange(ends[i] - found.pieces[i], ends[i]) for block in found.blocks for i in block.pieces]
        queries, keys = [block.queries for block in found.blocks], [block.keys for block in found.blocks]
        self.keys = torch.from_numpy(np.concatenate(places)).to(device)
        self.query_ends, self.key_ends = (
            torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device) for lengths in (queries, keys)
        )
        self.most_queries, self.most_keys = max(queries), max(keys)
        self.calls = 0


def varlen_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    tree: Rows | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """As `tree_attention.split_attention`, with `Rows` for a layout.

    Raises:
        ValueError: the layer asks for what is not implemented, or the numbers have 32 bits, which the kernel lacks.
    """
    refuse_more(dropout, more)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    kind = query.device.type
    if torch.is_autocast_enabled(kind):
        # The kernel is none of those that autocast knows: float32 from the rotation would meet bfloat16.
        query, key, value = (x.to(torch.get_autocast_dtype(kind)) for x in (query, key, value))
    if tree is None:
        return fused(query, key, value, scale, None).transpose(1, 2), None
    if query.is_cuda and query.element_size() != 2:
        raise ValueError(f"attention 'varlen' computes in 16 bits, not in {query.dtype}: use flex or split")
    tree.calls += 1
    out = varlen_attn(
        query[0].transpose(0, 1),
        of_rows(key, tree.keys),
        of_rows(value, tree.keys),
        tree.query_ends,
        tree.key_ends,
        tree.most_queries,
        tree.most_keys,
        scale=scale,
        window_size=CAUSAL,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return out[None], None


def of_rows(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Keys or values (1, H, T, D) of all rows, (K, H, D).

    A token of many rows gets a gradient from each of them. They are summed in float32: in bfloat16 the last of a
    hundred would be lost.
    """
    wide = states[0].transpose(0, 1).to(torch.promote_types(states.dtype, torch.float32))
    return wide.index_select(0, places).to(states.dtype)


def register() -> str:
    """Make `varlen_attention` known to transformers; returns its name for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, varlen_attention)
    return NAME
