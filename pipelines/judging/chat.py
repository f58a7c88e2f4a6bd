"""Token ids of a one-turn chat in which the message is text and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pipelines.core.errors import RowFailure

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# In place of the message while the chat template is applied; letters only, so that no template changes it.
_MARK = "OPENSELENEMESSAGE"


def encode_prompt(tokenizer: PreTrainedTokenizerBase, message: str) -> list[int]:
    """Ids of the chat template around `message`, up to where the answer begins.

    The template's own special tokens become single ids; the same characters inside the message do not: a response
    that contains `<|im_end|>` reaches the model as those ten characters.

    Args:
        tokenizer: with a chat template.
        message: the user's turn.

    Returns:
        Token ids, shape (T,).
    """
    return encode_prompts(tokenizer, [message])[0]


def encode_prompts(tokenizer: PreTrainedTokenizerBase, messages: Sequence[str]) -> list[list[int]]:
    """`encode_prompt` of several messages: one call of the tokenizer costs little more than one message does."""
    before, after = _around(tokenizer, tokenizer.chat_template)
    return [[*before, *ids, *after] for ids in encode_texts(tokenizer, [message.strip() for message in messages])]


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of plain text: special tokens written in it are ordinary characters."""
    return encode_texts(tokenizer, [text])[0]


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """`encode_text` of several texts.

    Raises:
        RowFailure: a text is not valid Unicode.
    """
    if not texts:
        return []
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as exc:  # half of a surrogate pair, which JSON can write and no tokenizer reads
        raise RowFailure("invalid_unicode", str(exc)) from None
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # The same ids in two thirds of the time: without the place of each token in the text, which is not needed.
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True
        return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]
    found = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, return_attention_mask=False, verbose=False
    )
    return [list(ids) for ids in found["input_ids"]]


def encode_completion(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of an answer and the token that ends a turn."""
    return encode_completions(tokenizer, [text])[0]


def encode_completions(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """`encode_completion` of several answers."""
    end = end_of_turn(tokenizer)
    return [[*ids, end] for ids in encode_texts(tokenizer, texts)]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token that ends an assistant's turn in this tokenizer's chat template."""
    return _end_of_turn(tokenizer, tokenizer.chat_template)


# Both are the same for every message, and applying a chat template costs more than encoding a short text.
@lru_cache(maxsize=16)
def _around(tokenizer: PreTrainedTokenizerBase, template: object) -> tuple[list[int], list[int]]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True
    )
    before, _, after = str(text).partition(_MARK)
    return tuple(list(tokenizer.encode(part, add_special_tokens=False)) for part in (before, after))  # type: ignore[return-value]


@lru_cache(maxsize=16)
def _end_of_turn(tokenizer: PreTrainedTokenizerBase, template: object) -> int:
    text = str(
        tokenizer.apply_chat_template(
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": _MARK}], tokenize=False
        )
    )
    ids = tokenizer.encode(text.rpartition(_MARK)[2], add_special_tokens=False)
    special = set(tokenizer.all_special_ids)
    for token in ids:
        if token in special:
            return int(token)
    return int(tokenizer.eos_token_id)


class Frame(NamedTuple):
    """Ids of a chat template before the user's text, between it and the answer, and after the answer."""

    before: list[int]
    between: list[int]
    after: list[int]


def turn_frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Ids of the chat template around one user's text and one answer: the same for every conversation.

    `between` is the end of the user's turn and the assistant's header.

    Raises:
        ValueError: the tokenizer has no chat template, or one that does not show both texts once, in order.
    """
    turns = [{"role": "user", "content": _MARK}, {"role": "assistant", "content": _MARK}]
    parts = str(tokenizer.apply_chat_template(turns, tokenize=False)).split(_MARK)
    if len(parts) != 3:
        raise ValueError("the chat template does not show a user's text and an answer once each")
    return Frame(*(list(tokenizer.encode(part, add_special_tokens=False)) for part in parts))
