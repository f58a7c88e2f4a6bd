"""Token ids of a one-turn chat in which the message is text and nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pipelines.core.errors import RowFailure
from pipelines.judging import chat_template
from pipelines.judging.chat_template import answering, asking, control_tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase


def encode_prompt(tokenizer: PreTrainedTokenizerBase, message: str) -> list[int]:
    """Ids of the chat template around `message`, up to where the answer begins.

    They are those of `apply_chat_template`, but for one thing: special tokens written in the message are characters. A
    response that contains `<|im_end|>` reaches the model as those ten characters.

    Args:
        tokenizer: with a chat template.
        message: the user's turn.

    Returns:
        Token ids, shape (T,).

    Raises:
        UserError: the chat template is not usable.
    """
    return encode_prompts(tokenizer, [message])[0]


def encode_prompts(tokenizer: PreTrainedTokenizerBase, messages: Sequence[str]) -> list[list[int]]:
    """`encode_prompt` of several messages: one call of the tokenizer costs little more than one message does."""
    chat = asking(tokenizer)
    return _encode_between(tokenizer, chat.before, [message.strip() for message in messages], chat.after)


def encode_completion(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of an answer and the token that ends a turn: what follows `encode_prompt` in the template's own ids."""
    return encode_completions(tokenizer, [text])[0]


def encode_completions(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """`encode_completion` of several answers."""
    chat, answer = asking(tokenizer), answering(tokenizer)
    # With what stands before an answer: its first letters need not be tokenised as they would be alone.
    opening = _encode(tokenizer, [chat.after])[0]
    stripped = [text.strip() for text in texts]
    found = _encode_between(tokenizer, chat.after + answer.lead, stripped, answer.end)
    if not all(ids[: len(opening)] == opening for ids in found):
        found, opening = _encode_between(tokenizer, answer.lead, stripped, answer.end), []
    eos = [] if answer.eos is None else [answer.eos]
    return [[*ids[len(opening) :], *eos] for ids in found]


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of plain text: special tokens written in it are ordinary characters."""
    return encode_texts(tokenizer, [text])[0]


def encode_texts(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """`encode_text` of several texts.

    Raises:
        RowFailure: a text is not valid Unicode.
    """
    return _encode(tokenizer, texts, plain=True)


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """Id of the token that ends an assistant's turn in this tokenizer's chat template."""
    return encode_completion(tokenizer, "")[-1]


class Frame(NamedTuple):
    """Ids of a chat template before the user's text, between it and the answer, and after the answer."""

    before: list[int]
    between: list[int]
    after: list[int]


def turn_frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """Ids of the chat template around one user's text and one answer: the same for every conversation.

    `between` is the end of the user's turn and the assistant's header.

    Raises:
        UserError: the tokenizer has no chat template, or one that does not show both texts once, in order.
    """
    return Frame(*_encode(tokenizer, chat_template.turn_frame(tokenizer)))


def _encode_between(
    tokenizer: PreTrainedTokenizerBase, before: str, texts: Sequence[str], after: str
) -> list[list[int]]:
    """Ids of each text between two stretches of a chat template, whose special tokens are single ids."""
    controls = control_tokens(tokenizer).keys()
    bare = sum(token in controls for token in _encode(tokenizer, [before + after])[0])
    found = _encode(tokenizer, [f"{before}{text}{after}" for text in texts])
    for index, ids in enumerate(found):
        if sum(token in controls for token in ids) != bare:  # the text has some of its own
            first, last = _encode(tokenizer, [before, after])
            found[index] = [*first, *encode_text(tokenizer, texts[index]), *last]
    return found


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, plain: bool = False) -> list[list[int]]:
    """Ids of texts; where `plain`, special tokens written in them are characters."""
    if not texts:
        return []
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as exc:  # half of a surrogate pair, which JSON can write and no tokenizer reads
        raise RowFailure("invalid_unicode", str(exc)) from None
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        options = {"add_special_tokens": False, "split_special_tokens": plain, "verbose": False}
        found = tokenizer(list(texts), return_attention_mask=False, **options)
        return [list(ids) for ids in found["input_ids"]]
    if plain and any(token in text for token in unmarked_tokens(tokenizer) for text in texts):
        backend = _all_marked(tokenizer, tokenizer.chat_template)
    # The same ids in two thirds of the time: without the place of each token in the text, which is not needed.
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = plain
    return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]


def unmarked_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Control tokens that the tokenizer does not call special, so that by itself it would read them in any text."""
    return _unmarked(tokenizer, tokenizer.chat_template)


# Both are the same for every text, and costly.
@lru_cache(maxsize=16)
def _unmarked(tokenizer: PreTrainedTokenizerBase, template: object) -> list[str]:
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return [token for token in control_tokens(tokenizer).values() if token not in special]


@lru_cache(maxsize=4)
def _all_marked(tokenizer: PreTrainedTokenizerBase, template: object) -> Tokenizer:
    """The tokenizer with all control tokens called special, so that they can be read as characters."""
    from tokenizers import Tokenizer

    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    controls = control_tokens(tokenizer)
    for token in definition["added_tokens"]:
        token["special"] |= token["id"] in controls
    return Tokenizer.from_str(json.dumps(definition))
