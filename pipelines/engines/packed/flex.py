"""Attention over a packed trie as one compiled kernel that skips what is masked, for GPUs; see `tree_attention`.

Not proven on a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.engines.packed.tree_attention import refuse_more, visible
from pipelines.engines.packed.trie import Trie

NAME = "prefix_tree_flex"
BLOCK = 128  # queries and keys of a block, FlexAttention's own default


def block_mask(tree: Trie, device: torch.device) -> Any:
    """The rule of a trie as a FlexAttention BlockMask.

    Which blocks are seen follows from the ends of the subtrees, without a boolean for each query and key: those would
    be 268 MB for 16,384 tokens.
    """
    from torch.nn.attention.flex_attention import BlockMask

    last, total = torch.from_numpy(tree.last).to(device, torch.int32), len(tree.last)
    whole, some = blocks_seen(tree)
    count, order, full_count, full_order = (
        torch.from_numpy(array)[None, None].to(device) for seen in (some, whole) for array in ordered(seen)
    )

    def sees(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return visible(last, query, key)

    return BlockMask.from_kv_blocks(
        count, order, full_count, full_order, BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(total, total)
    )


def blocks_seen(tree: Trie) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(blocks of queries, blocks of keys): whether every query sees every key, and whether some see some."""
    total = len(tree.last)
    starts = np.arange(0, total, BLOCK)
    ends = np.minimum(starts + BLOCK, total)
    before = starts[:, None] > starts[None, :]
    # A later query q sees key k exactly when q < last[k].
    whole = before & (ends[:, None] <= np.minimum.reduceat(tree.last, starts)[None, :])
    some = before & (starts[:, None] < np.maximum.reduceat(tree.last, starts)[None, :])
    # The kernel takes a block that the sequence does not fill for a part, and so is what a token sees of its own block.
    whole[ends - starts < BLOCK] = False
    return whole, (some & ~whole) | np.eye(len(starts), dtype=bool)


def ordered(seen: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """How many blocks of keys each block of queries sees, and which, those first."""
    return seen.sum(1, dtype=np.int32), np.argsort(~seen, axis=1, kind="stable").astype(np.int32)


def flex_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The library's own FlexAttention, for what `refuse_more` lets through; numbers of one type under autocast.

    Raises:
        ValueError: the layer asks for what is not implemented.
    """
    from transformers.integrations.flex_attention import flex_attention_forward

    refuse_more(dropout, more)
    kind = query.device.type
    if torch.is_autocast_enabled(kind):
        query, key, value = (x.to(torch.get_autocast_dtype(kind)) for x in (query, key, value))
    out, weights = flex_attention_forward(module, query, key, value, attention_mask, scaling=scaling)
    return out, weights


def register() -> str:
    """Make `flex_attention` known to transformers; returns its name for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, flex_attention)
    return NAME
