"""Floating-point operations of training on pairs: the minimum, and what each implementation takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# Of a matrix product, both of its gradients; of fused attention five products for two, the scores being made again.
BACKWARD, ATTENTION_BACKWARD = 2.0, 2.5


@dataclass(frozen=True)
class Work:
    """What goes through a model.

    Attributes:
        tokens: positions of the backbone.
        scored: positions that the head projects onto the vocabulary.
        attended: pairs of a query and a key, per head and layer.
    """

    tokens: float = 0
    scored: float = 0
    attended: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.tokens + other.tokens, self.scored + other.scored, self.attended + other.attended)


@dataclass(frozen=True)
class Shape:
    """A dense decoder's sizes; `query` and `key` are heads × head width, `ffn` that of a gated layer."""

    layers: int
    hidden: int
    query: int
    key: int
    ffn: int
    vocab: int

    @classmethod
    def of(cls, config: Any) -> Shape | None:
        """From a `transformers` config; None for a model that is not a dense decoder with gated layers."""
        names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "vocab_size")
        if any(getattr(config, name, None) is None for name in names) or hasattr(config, "num_experts"):
            return None
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        key_heads = getattr(config, "num_key_value_heads", None) or heads
        return cls(
            config.num_hidden_layers,
            config.hidden_size,
            heads * width,
            key_heads * width,
            config.intermediate_size,
            config.vocab_size,
        )

    def products(self, work: Work) -> float:
        """Of the weights' matrix products, forward: two for each multiplication and addition."""
        layer = 2 * self.hidden * self.query + 2 * self.hidden * self.key + 3 * self.hidden * self.ffn
        return 2.0 * (work.tokens * self.layers * layer + work.scored * self.hidden * self.vocab)

    def attention(self, work: Work) -> float:
        """Of the scores and of their weighted sum, forward."""
        return 4.0 * self.layers * self.query * work.attended

    def forward(self, work: Work) -> float:
        """A forward pass."""
        return self.products(work) + self.attention(work)

    def step(self, work: Work) -> float:
        """A forward and a backward pass."""
        return (1 + BACKWARD) * self.products(work) + (1 + ATTENTION_BACKWARD) * self.attention(work)

    def model_flops(self, work: Work) -> float:
        """As the numerator of MFU counts them (arXiv 2204.02311, appendix B): backward twice forward, none redone."""
        return 3 * self.forward(work)


def needed(prompt: int, chosen: int, rejected: int) -> Work:
    """Every token of a pair once, each attending to what it may see: the minimum."""
    causal = prompt * (prompt + 1) / 2 + sum(c * prompt + c * (c + 1) / 2 for c in (chosen, rejected))
    return Work(prompt + chosen + rejected, chosen + rejected, causal)


def shared(prompt: int, chosen: int, rejected: int) -> Work:
    """Our split attention as a profiler counts it: masked parts of a rectangle count as computed."""
    first, tokens = prompt + chosen, prompt + chosen + rejected
    return Work(tokens, chosen + rejected, first * first + rejected * (prompt + rejected))


def stock(lengths: Iterable[tuple[int, int, int]]) -> Work:
    """A micro-batch of pairs as the mainstream trainers run it, as a profiler counts it.

    Two sequences a pair, each with the prompt, all padded to the longest; the head projects every position.

    Args:
        lengths: tokens of prompt, chosen and rejected of each pair.
    """
    pairs = list(lengths)
    longest = max(prompt + max(chosen, rejected) for prompt, chosen, rejected in pairs)
    n = 2 * len(pairs)
    return Work(n * longest, n * longest, n * longest * longest)
