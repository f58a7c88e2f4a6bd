"""The implementations of attention over a packed trie by name, and what each is told.

`split` runs anywhere and is quickest on a CPU; `varlen` and `flex` are for GPUs; `mask` is slow, and the reference.
"""

from __future__ import annotations

from typing import Any

import torch

from pipelines.engines.packed import flex, tree_attention, varlen
from pipelines.engines.packed.choice import Backend
from pipelines.engines.packed.trie import Trie

MASK_NAME = "prefix_tree_mask"


def implementation(backend: Backend) -> str:
    """Make it known to transformers; returns the `attn_implementation` to load a model with."""
    if backend == "mask":
        from transformers import AttentionInterface

        AttentionInterface.register(MASK_NAME, mask_attention)
        return MASK_NAME
    return {"split": tree_attention.register, "varlen": varlen.register, "flex": flex.register}[backend]()


def told(backend: Backend, tree: Trie, device: torch.device, by_onednn: bool = False) -> dict[str, Any]:
    """What a model's forward pass is told beside ids and positions: `tree`, or `attention_mask`.

    Args:
        backend: the implementation.
        tree: the packed trie.
        device: of the model.
        by_onednn: `split` may use oneDNN's products: the model computes in float32 on a CPU.
    """
    if backend == "split":
        return {"tree": tree_attention.Layout(tree, device, by_onednn)}
    if backend == "varlen":
        return {"tree": varlen.Rows(tree, device)}
    make = flex.block_mask if backend == "flex" else tree_attention.dense_mask
    return {"attention_mask": make(tree, device)}


def mask_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """PyTorch's attention with the dense mask, for what `refuse_more` lets through.

    Raises:
        ValueError: the layer asks for what is not implemented.
    """
    tree_attention.refuse_more(dropout, more)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return tree_attention.fused(query, key, value, scale, attention_mask).transpose(1, 2), None
