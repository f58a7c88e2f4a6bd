"""What a certificate asks of an engine, and the prompts it asks with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from pipelines.judging.chat_template import Asking

Weights = list[dict[int, float]]
Encode = Callable[[str, bool], list[int]]
"""(text, whether control tokens in it are read as such) -> ids."""


class Reader(Protocol):
    """One engine with one file of the model."""

    def encode(self, messages: Sequence[str]) -> list[list[int]]:
        """Prompt ids in which a message is text and nothing else, with the engine's own tokenizer."""
        ...

    def chat(self, messages: Sequence[str]) -> list[list[int]]:
        """Prompt ids of the engine's own chat route, which reads control tokens in a message as such."""
        ...

    def weigh(self, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> Weights:
        """Log-probabilities of some tokens after each prompt, as shape (N,) of token -> value."""
        ...


def framed(encode: Encode, chat: Asking, message: str, controls: frozenset[int]) -> list[int]:
    """Prompt ids by the rule of `judging/chat.py`, with any tokenizer: text in one go, unless it holds control tokens.

    Args:
        encode: of the engine.
        chat: what stands around the message.
        message: of the user.
        controls: ids of the tokens that steer the model.
    """
    message = message.strip()
    whole = encode(f"{chat.before}{message}{chat.after}", True)
    own = sum(token in controls for token in encode(chat.before + chat.after, True))
    if sum(token in controls for token in whole) == own:
        return whole
    return [*encode(chat.before, True), *encode(message, False), *encode(chat.after, True)]
