"""What one request of an engine wrote, put together from one output or from many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from vllm import RequestOutput


@dataclass
class Generated:
    """A request's answer.

    Attributes:
        text: without the end of the turn.
        ids: with it.
        logprobs: for each token, entries by id, if they were asked for.
        finished: the model ended by itself.
        cached_tokens: tokens of the prompt that were computed before.
    """

    text: str = ""
    ids: list[int] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    finished: bool = False
    cached_tokens: int = 0

    def add(self, output: RequestOutput) -> str:
        """Add what an output of vLLM brings, and return its text."""
        piece = output.outputs[0]
        self.text += piece.text
        self.ids += piece.token_ids
        self.logprobs += piece.logprobs or []
        self.finished = piece.finish_reason != "length"
        self.cached_tokens = output.num_cached_tokens or self.cached_tokens
        return str(piece.text)


class Weighed(NamedTuple):
    """Log-probabilities of some tokens at one place, and the prompt's cached tokens."""

    logprobs: dict[int, float]
    cached_tokens: int
