"""Conversations for a reward model: the texts of a row as token ids, and padded batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipelines.core.errors import RowFailure, UserError
from pipelines.core.records import Row
from pipelines.judging.chat import encode_texts, turn_frame


@dataclass(frozen=True)
class Conversation:
    """A user's text and the response to it.

    Attributes:
        user: the text.
        response: what is scored.
        others: the row's other responses. A user's text that must be shortened is shortened for the longest of all, so
            that every response of a row is scored after the same text.
    """

    user: str
    response: str
    others: tuple[str, ...] = ()


class Encoded(NamedTuple):
    """A conversation as token ids, split where the answer begins."""

    prompt: list[int]
    response: list[int]

    @property
    def ids(self) -> list[int]:
        """The whole conversation."""
        return self.prompt + self.response


class RowProblem(RowFailure):
    """A conversation that cannot be scored."""


class Encoder:
    """Encodes conversations: the chat template's own tokens, and texts whose special tokens are plain text.

    A conversation longer than `max_tokens` loses the beginning of the user's text, never anything after it:
    the gate position and the response stay whole.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, where: str = "") -> None:
        try:
            self.frame = turn_frame(tokenizer)
        except UserError as exc:
            raise UserError(f"no usable chat template: {exc.what}", where=where) from None
        self.tokenizer, self.max_tokens = tokenizer, max_tokens

    def __call__(self, conversation: Conversation) -> Encoded:
        """Token ids, together at most `max_tokens`.

        Raises:
            RowProblem: a response alone leaves no room for the user's text.
        """
        before, between, after = self.frame
        texts = (conversation.user, conversation.response, *conversation.others)
        user, response, *others = encode_texts(self.tokenizer, [text.strip() for text in texts])
        response = [*response, *after]
        longest = max(len(response), *(len(other) + len(after) for other in others), 0)
        room = self.max_tokens - len(before) - len(between) - longest
        if room < min(1, len(user)):
            raise RowProblem("response_too_long")
        return Encoded([*before, *user[max(0, len(user) - room) :], *between], response)


def budget_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Cut sequences, sorted by length, into batches of at most `batch_tokens` tokens with their padding.

    Args:
        lengths: tokens of each sequence.
        batch_tokens: the budget; a sequence longer than that is a batch of its own.

    Returns:
        Indices into `lengths`, each exactly once.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda k: (lengths[k], k)):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def conversations(row: Row) -> list[Conversation]:
    """A row's user text with each of its responses.

    Raises:
        RowProblem: it has none.
    """
    if not row["responses"]:
        raise RowProblem("no_responses")
    texts = [text or "" for text in row["responses"]]
    return [Conversation(user_text(row), text, (*texts[:i], *texts[i + 1 :])) for i, text in enumerate(texts)]


def user_text(row: Row) -> str:
    """The user's turn for the reward model: the context, if any, and after it the instruction.

    The instruction comes last, so that shortening the user's turn takes from the context first.
    """
    return "\n\n".join(text for text in (row["context"], row["instruction"]) if text)
