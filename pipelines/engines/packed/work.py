"""What goes through a model, and the floating-point operations it takes."""

from __future__ import annotations

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


def stretch(depth: int, tokens: int, scored: bool = False) -> Work:
    """Tokens in a row, each of which sees those before it, after `depth` others that all of them see."""
    return Work(tokens, tokens if scored else 0, tokens * depth + tokens * (tokens + 1) / 2)


def pair_work(prompt: int, chosen: int, rejected: int, shared: int = 0) -> Work:
    """What the completions of a pair add to its prompt, if they have their first `shared` tokens in common."""
    branches = (stretch(prompt + shared, tokens - shared, scored=True) for tokens in (chosen, rejected))
    return sum(branches, stretch(prompt, shared, scored=True))
