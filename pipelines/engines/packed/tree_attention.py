"""Attention over a packed trie: a token sees its ancestors and itself, and nothing else.

Used for training, and for reward scores. Token q sees token k exactly when `k <= q < last[k]` (see `trie.Trie`).

`split`, here, computes node by node: the queries of a block against the keys of their ancestors and their own. `varlen`
and `flex`, in files of their own, are for GPUs. `mask` gives a dense mask to any attention that takes one: work and
memory grow with the square of the packed sequence, so it is the fallback and the reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from pipelines.core.errors import UserError
from pipelines.engines import onednn
from pipelines.engines.packed.blocks import Block, cut
from pipelines.engines.packed.trie import Trie

Way = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float, torch.Tensor | None], torch.Tensor]
NAME = "prefix_tree"  # in transformers' registry of attention functions
# Queries × keys of a block up to which plain matrix products beat the fused kernel on a CPU, whose backward pass
# handles short sequences badly: 2.2 ms against 4.2 ms at 130 tokens, 33 against 28 at 600 (docs/performance.md).
SMALL = 256**2
# Queries × keys of a block from which oneDNN's products, head by head, beat both: 3.8 ms against 5.5 at 130 queries of
# 700 keys, 6.1 against 10.1 at 256 of 700; at 50 of 700 2.5 against 2.2, and below the calls cost more than they save.
HEAD_BY_HEAD = 2**15
# Queries of a row of tokens behind ancestors: 19% less time on a CPU than without end, and 128 gain nothing more.
LONGEST = 256
# What models tell their attention that does not change which token sees which, nor any score.
HARMLESS = {"position_ids", "cache_position", "use_cache", "is_causal", "output_attentions", "output_hidden_states"}


class Layout:
    """How a packed trie is cut; made once, used by every layer of a forward pass.

    No dataclass: FSDP takes those apart that it finds among a layer's arguments, and makes new ones.

    Attributes:
        cut: blocks of queries and pieces of keys.
        ways: per block, what computes it: `plain`, `fused` or `head_by_head`.
        masks: per block (queries, keys), who sees whom; None for one causal sequence from its beginning. For
            `head_by_head` what is added to its scores, 0 or minus infinity.
        calls: how many layers have used it.
    """

    def __init__(self, tree: Trie, device: torch.device, by_onednn: bool = False) -> None:
        """`by_onednn`: compute large blocks by its products; queries, keys and values are then float32."""
        small = SMALL if device.type == "cpu" else 0
        self.cut = cut(tree, small, LONGEST)
        self.ways = [way(block.queries * block.keys, small, by_onednn) for block in self.cut.blocks]
        last = torch.from_numpy(tree.last).to(device)
        self.masks = [block_of_mask(last, block, way) for block, way in zip(self.cut.blocks, self.ways, strict=True)]
        self.calls = 0


def way(scores: int, small: int, by_onednn: bool) -> Way:
    """What computes a block with that many scores."""
    if by_onednn and scores >= HEAD_BY_HEAD:
        return head_by_head
    return plain if scores <= small else fused


def block_of_mask(last: torch.Tensor, block: Block, way: Way) -> torch.Tensor | None:
    """(queries, keys) of a block, see `Layout.masks`: all of the ancestors, and of its own tokens by the rule."""
    if way is fused and block.keys == block.queries:
        return None
    places = torch.arange(block.start, block.stop, device=last.device)
    before = torch.ones(block.queries, block.keys - block.queries, dtype=torch.bool, device=last.device)
    seen = torch.cat([before, visible(last, places[:, None], places[None, :])], 1)
    if way is head_by_head:
        return torch.zeros(seen.shape, device=last.device).masked_fill_(~seen, -torch.inf)
    return seen


def visible(last: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Whether the token at `query` sees the one at `key`."""
    return (key <= query) & (query < last[key])


def split_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    tree: Layout | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a packed trie, without any work between tokens of which none is the other's ancestor.

    Args:
        module: the attention layer.
        query: (1, H, T, D).
        key: (1, H_kv, T, D).
        value: (1, H_kv, T, D).
        attention_mask: not used; `tree` says who sees whom.
        scaling: of the scores; None means 1/√D.
        dropout: of the attention weights; must be 0.
        tree: the layout; None means one ordinary causal sequence.
        more: what else the model tells its attention.

    Returns:
        (1, T, H, D) and None, as transformers expects.

    Raises:
        ValueError: the layer asks for what is not implemented, such as dropout, softcapping or sinks.
    """
    refuse_more(dropout, more)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if tree is None:
        return fused(query, key, value, scale, None).transpose(1, 2), None
    tree.calls += 1
    # One split, whose backward pass is one concatenation; slices would each add into a whole zero tensor.
    queries = query.split([block.queries for block in tree.cut.blocks], dim=2)
    keys, values = (x.split(tree.cut.pieces, dim=2) for x in (key, value))
    parts = []
    for block, q, mask, attend in zip(tree.cut.blocks, queries, tree.masks, tree.ways, strict=True):
        k, v = (torch.cat([pieces[i] for i in block.pieces], dim=2) for pieces in (keys, values))
        parts.append(attend(q, k, v, scale, mask))
    return torch.cat(parts, dim=2).transpose(1, 2), None


def refuse_more(dropout: float, more: dict[str, Any]) -> None:
    """Refuse what would silently be left out.

    A sliding window is let through: `refuse` has seen that no sequence is longer.

    Raises:
        ValueError: naming it.
    """
    if dropout:
        raise ValueError("attention dropout is not implemented: use train.engine: trl")
    unknown = [name for name, value in more.items() if value is not None and name not in {*HARMLESS, "sliding_window"}]
    if unknown:
        raise ValueError(f"attention with {', '.join(unknown)} is not implemented: use train.engine: trl")


def refuse(model: Any, longest: int, where: str, fix: str) -> None:
    """Refuse a model with attention that the prefix tree cannot do exactly; all three implementations need this.

    Args:
        model: of `transformers`.
        longest: tokens of the longest sequence it will see.
        where: the key or folder that named the model.
        fix: what to do instead.

    Raises:
        UserError: its attention has a window shorter than `longest`, caps its scores, has sinks, or is none.
    """
    config = model.config
    window, kinds = getattr(config, "sliding_window", None), set(getattr(config, "layer_types", None) or ())
    if window is not None and window < longest and kinds != {"full_attention"}:
        what = f"looks back {window} tokens in some layers, and sequences have up to {longest}"
    elif kinds - {"full_attention", "sliding_attention"} or ("sliding_attention" in kinds and window is None):
        what = f"has layers of other kinds ({', '.join(sorted(kinds - {'full_attention'}))})"
    elif getattr(config, "attn_logit_softcapping", None) is not None:
        what = "caps its attention scores"
    elif any(name.endswith("sinks") for name, _ in model.named_parameters()):
        what = "has attention sinks"
    else:
        return
    raise UserError(f"the model {what}, which shared prompts do not support", where=where, fix=fix)


def fused(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor | None
) -> torch.Tensor:
    """PyTorch's fused attention, causal where no mask is given; (1, H, T, D)."""
    grouped = key.shape[1] != query.shape[1]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=grouped
    )


def plain(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention of one short block by matrix products, softmax in float32; (1, H, T, D)."""
    assert mask is not None
    batch, heads, length, width = query.shape
    groups = key.shape[1]
    query = query.reshape(batch, groups, -1, width)  # the query heads of one key head, one below the other
    scores = (query @ key.transpose(-1, -2)).view(batch, groups, -1, *mask.shape) * scale
    weights = scores.float().masked_fill(~mask, -torch.inf).softmax(-1).to(value.dtype)
    return (weights.view(batch, groups, -1, key.shape[2]) @ value).view(batch, heads, length, width)


def head_by_head(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attention of one block in float32 by oneDNN's products; `mask` is added to the scores; (1, H, T, D)."""
    # The query heads of one key head, one below the other.
    below = (query * scale).reshape(key.shape[1], -1, query.shape[-1])
    found: torch.Tensor = _HeadByHead.apply(below, key[0], value[0], mask)
    return found.view(query.shape)


class _HeadByHead(torch.autograd.Function):
    """Softmax of `query` (G, R, D) times `key` (G, K, D), times `value` (G, K, D); (G, R, D).

    Weights are computed again in the backward pass: kept, those of all layers took 3 GB of a bin of 3,072 tokens.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        out = torch.stack([onednn.multiply(_weights(q, k, mask), v) for q, k, v in zip(query, key, value, strict=True)])
        ctx.save_for_backward(query, key, value, mask, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, mask, out = ctx.saved_tensors
        gradient = gradient.contiguous()
        found = []
        for q, k, v, made, by_out in zip(query, key, value, out, gradient, strict=True):
            weights = _weights(q, k, mask)
            by_value = onednn.multiply(weights.T, by_out)
            # Of softmax: the gradient of a weight less their mean by weight, which is the product of out and its own.
            by_score = onednn.multiply(by_out, v.T)
            by_score.sub_((by_out * made).sum(-1, keepdim=True)).mul_(weights)
            found.append((onednn.multiply(by_score, k), onednn.multiply(by_score.T, q), by_value))
        return *(torch.stack(each) for each in zip(*found, strict=True)), None


def _weights(query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(R, K) of one key head."""
    scores = onednn.multiply(query, key.T).view(-1, *mask.shape).add_(mask)
    return scores.softmax(-1).view(-1, mask.shape[1])


def register() -> str:
    """Make `split_attention` known to transformers; returns its name for `attn_implementation`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, split_attention)
    return NAME


def dense_mask(tree: Trie, device: torch.device) -> torch.Tensor:
    """(1, 1, T, T), true where a query (row) sees a key (column)."""
    places = torch.arange(len(tree.ids), device=device)
    return visible(torch.from_numpy(tree.last).to(device), places[:, None], places[None, :])[None, None]
