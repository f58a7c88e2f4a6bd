"""Log-probabilities of completion tokens from a causal language model, without its full logits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from pipelines.core.errors import UserError
from pipelines.engines import onednn
from pipelines.engines.packed import backends, tree_attention
from pipelines.engines.packed.choice import Backend
from pipelines.training.head_logprobs import Multiply, head_scores

CHUNK = 2**25  # logits that exist at once; 128 MiB in float32
CACHED = 2**22  # the same for oneDNN's products: 16 MiB, what a CPU's caches hold
TILE = 128  # rows of a matrix product on a GPU: a chunk of whole tiles leaves no part of a wave idle


@dataclass
class Scores:
    """Of every completion of a packed trie, in the order chosen, rejected, chosen, rejected, ...

    Attributes:
        log_probs: (2N,), summed over the completion's tokens, float32.
        lengths: (2N,), tokens.
        entropy: scalar, nats, mean over all tokens of all completions.
        hits: scalar, share of the chosen tokens that were the likeliest.
    """

    log_probs: torch.Tensor
    lengths: torch.Tensor
    entropy: torch.Tensor
    hits: torch.Tensor


def prepare(model: Any, attention: Backend, longest: int) -> Any:
    """Make a causal language model's forward pass return the scores of packed pairs.

    The model stays what it is (its class, its weights' names), so that saving, DeepSpeed and LoRA need not know.

    Args:
        model: a `transformers` causal language model, loaded with `backends.implementation(attention)`.
        attention: how it is computed.
        longest: tokens of the longest sequence.

    Returns:
        The model.

    Raises:
        UserError: the model's attention, or what it does to its logits after the head, is not supported by this engine.
    """
    config = model.config
    tree_attention.refuse(model, longest, where="train.model", fix="train it with train.engine: trl")
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier"):
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise UserError(
                f"the model scales its logits ({name}), which engine 'shared' does not support",
                where="train.model",
                fix="train it with train.engine: trl",
            )
    head = model.get_output_embeddings()
    # The head is called once a forward pass, so its weight is gathered once where it is kept in shards. A call for each
    # chunk would be a collective operation for each, and ranks with more tokens would wait for the others for ever.
    by_onednn = onednn.used(model)
    head.forward = partial(token_scores, head, multiply=onednn.multiply if by_onednn else torch.matmul)
    model.forward = partial(score, model, attention, by_onednn=by_onednn)
    return model


def compile_layers(model: Any) -> None:
    """Compile the parts of each layer that work token by token, for any number of tokens.

    Attention is left out: it works block by block, and would be recompiled for every packing.
    """
    for layer in getattr(model, model.base_model_prefix).layers:
        for name, part in layer.named_children():
            if "attn" not in name:
                part.compile(dynamic=True)


def score(model: Any, attention: Backend, packed: dict[str, Any], by_onednn: bool = False) -> Scores:
    """One forward pass over a packed trie of pairs (see `packing.pack`).

    Raises:
        UserError: the model keeps from its attention what it is told, and would mix the sequences.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    backbone = getattr(causal, causal.base_model_prefix)
    ids, tree = packed["input_ids"], packed["tree"]
    half = torch.is_autocast_enabled(ids.device.type)
    how = backends.told(attention, tree, ids.device, by_onednn and not half and causal.dtype == torch.float32)
    hidden = backbone(input_ids=ids, position_ids=packed["position_ids"], use_cache=False, **how).last_hidden_state
    if "tree" in how and not how["tree"].calls:
        raise UserError(
            "the model does not tell its attention which token sees which",
            where="train.model",
            fix="set train.attention: mask, or train.engine: trl",
        )
    log_probs, entropy, hits = causal.get_output_embeddings()(hidden[0, packed["sources"]], packed["targets"])
    members, completions = packed["members"], packed["completions"]
    # A token of several completions was scored once, and counts in each of them.
    of_each = log_probs[members]
    zeros = log_probs.new_zeros(2 * len(packed["prompts"]))
    return Scores(
        log_probs=zeros.index_add(0, completions, of_each),
        lengths=zeros.index_add(0, completions, torch.ones_like(of_each)),
        entropy=entropy[members].mean(),
        hits=hits[members[completions % 2 == 0]].float().mean(),
    )


def token_scores(
    head: Any,
    hidden: torch.Tensor,
    targets: torch.Tensor | None = None,
    multiply: Multiply = torch.matmul,
) -> Any:
    """Log-probability and entropy (K,) in float32, and whether the target was the likeliest token (K,).

    Args:
        head: the model's output embedding, a linear layer of weight (V, D); this is its forward pass.
        hidden: (K, D).
        targets: (K,); without them the logits are returned, as ever.
        multiply: two matrices of float32.

    A long batch is projected in chunks, whose logits are computed again in the backward pass.
    """
    weight, bias = head.weight, head.bias
    if targets is None:
        return F.linear(hidden, weight, bias)
    if hidden.is_cuda or not torch.is_autocast_enabled("cpu"):
        chunk = min(CHUNK, CACHED) if multiply is onednn.multiply else CHUNK
        return tuple(head_scores(hidden, weight, targets, bias, chunk, multiply))
    # PyTorch has no product of bfloat16 into float32 on CPUs, and one in float32 takes half as long again.
    rows = max(1, CHUNK // len(weight))
    if rows > TILE:
        rows -= rows % TILE
    if len(targets) <= rows:
        return chunk_scores(hidden, weight, bias, targets)
    parts = [
        checkpoint(chunk_scores, h, weight, bias, t, use_reentrant=False)
        for h, t in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    log_probs, entropy, hits = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return log_probs, entropy, hits


def chunk_scores(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`token_scores` of one chunk."""
    everything = F.linear(hidden, weight, bias).float().log_softmax(-1)
    with torch.no_grad():
        entropy = -(everything.exp() * everything).sum(-1)
        hits = everything.argmax(-1) == targets
    return everything.gather(-1, targets[:, None])[:, 0], entropy, hits
