"""What a tokenizer's chat template writes around a message and around an answer; unusable templates are refused."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.core.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# In place of a text while the chat template is applied.
_MARK, _SECOND = "OPENSELENEMESSAGE", "OPENSELENEANSWER"
# Whether a template leaves texts as they are.
_PROBE = f"Aa {string.digits}{string.punctuation}\n\n\tTwo  spaces, \u00e9\u00df\u6f22\U0001f389 and <b>zZ</b>"
_CONTROL = r"\W.+\W"  # such as `<think>`; Gemma also has tokens of line breaks, which are text
_CLOSED = r"\s*(?:<(\w+)>\s*</\1>\s*)?"  # an empty thought
_NO_TEMPLATE = "choose an instruction-tuned model, or put its chat_template.jinja into the model's folder"


class Asking(NamedTuple):
    """What stands before and after a message, up to where the answer begins."""

    before: str
    after: str


class Answering(NamedTuple):
    """What a conversation has after `Asking.after`: `lead`, the answer, and `end`, whose last token ends the turn.

    `eos` is the tokenizer's own end of text, where the template writes no token after an answer.
    """

    lead: str
    end: str
    eos: int | None


class Frame(NamedTuple):
    """What stands before the user's text, between it and the answer, and after the answer."""

    before: str
    between: str
    after: str


def asking(tokenizer: PreTrainedTokenizerBase) -> Asking:
    """The same for every message.

    Raises:
        UserError: there is no chat template, or it fails, hides or changes a message.
    """
    return _asking(tokenizer, _template(tokenizer))


def answering(tokenizer: PreTrainedTokenizerBase) -> Answering:
    """The same for every answer.

    Raises:
        UserError: as for `asking`, or answers do not follow its prompts, or end with no token.
    """
    return _answering(tokenizer, _template(tokenizer))


def turn_frame(tokenizer: PreTrainedTokenizerBase) -> Frame:
    """The chat template around one user's text and one answer, as a conversation has them.

    Raises:
        UserError: there is no chat template, or it fails, hides or changes one of the two.
    """
    return _frame(tokenizer, _template(tokenizer))


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> Mapping[int, str]:
    """Id and text of the tokens that steer the model: special ones, and added ones that the chat template writes."""
    return _control_tokens(tokenizer, _template(tokenizer))


def _template(tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.chat_template or "")


@lru_cache(maxsize=16)
def _control_tokens(tokenizer: PreTrainedTokenizerBase, template: str) -> dict[int, str]:
    return {
        number: token.content
        for number, token in tokenizer.added_tokens_decoder.items()
        if token.special or (token.content in template and re.fullmatch(_CONTROL, token.content))
    }


@lru_cache(maxsize=16)
def _asking(tokenizer: PreTrainedTokenizerBase, template: str) -> Asking:
    before, after = _around(tokenizer, [_MARK], "a message")
    return Asking(before, after)


@lru_cache(maxsize=16)
def _frame(tokenizer: PreTrainedTokenizerBase, template: str) -> Frame:
    return Frame(*_around(tokenizer, [_MARK, _SECOND], "a user's text and an answer"))


@lru_cache(maxsize=16)
def _answering(tokenizer: PreTrainedTokenizerBase, template: str) -> Answering:
    chat, frame = asking(tokenizer), turn_frame(tokenizer)
    if frame.between.startswith(chat.after):
        lead = frame.between[len(chat.after) :]
    else:
        # A prompt may end with an empty thought that a conversation lacks, but not with one that is left open.
        lead, more = "", chat.after.removeprefix(frame.between)
        if more == chat.after or not re.fullmatch(_CLOSED, more):
            raise _unusable(tokenizer, f"prompts end with {chat.after!r}; answers of a conversation do not follow it")
    if frame.before != chat.before:
        raise _unusable(tokenizer, "the chat template begins prompts and conversations in two ways")
    ends = [
        (place, len(token)) for token in control_tokens(tokenizer).values() if (place := frame.after.find(token)) >= 0
    ]
    if ends:
        place, length = min(ends, key=lambda end: (end[0], -end[1]))
        return Answering(lead, frame.after[: place + length], None)
    if frame.after.strip():
        raise _unusable(tokenizer, f"answers end with {frame.after!r}, which is no token of this tokenizer")
    if tokenizer.eos_token_id is None:
        raise _unusable(tokenizer, "answers have no end, and the tokenizer has no end of text")
    return Answering(lead, "", int(tokenizer.eos_token_id))


def _around(tokenizer: PreTrainedTokenizerBase, marks: list[str], what: str) -> list[str]:
    """The stretches around the texts; they may be plain strings, or lists of content parts."""
    if not _template(tokenizer):
        raise _unusable(tokenizer, "the tokenizer has no chat template", _NO_TEMPLATE)
    problem, changed = f"it does not show {what} once", f"it changes {what}"
    for parts in (False, True):
        try:
            shown = _render(tokenizer, marks, parts)
            stretches = _split(shown, marks)
            if stretches is None:
                continue
            if _render(tokenizer, [_PROBE] * len(marks), parts) == _PROBE.join(stretches):
                return stretches
            problem = changed
        except Exception as exc:  # a template may raise anything, as one for strings does of parts
            problem = problem if problem == changed else " ".join(str(exc).split()) or type(exc).__name__
    raise _unusable(tokenizer, f"the chat template is not usable: {problem}")


def _render(tokenizer: PreTrainedTokenizerBase, texts: list[str], parts: bool) -> str:
    turns: list[dict[str, Any]] = [
        {"role": role, "content": [{"type": "text", "text": text}] if parts else text}
        for role, text in zip(("user", "assistant"), texts, strict=False)
    ]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=len(texts) == 1))


def _split(shown: str, marks: list[str]) -> list[str] | None:
    stretches = []
    for mark in marks:
        if shown.count(mark) != 1:
            return None
        before, _, shown = shown.partition(mark)
        stretches.append(before)
    return [*stretches, shown]


def _unusable(tokenizer: PreTrainedTokenizerBase, what: str, fix: str = "choose another model") -> UserError:
    return UserError(what, where=str(getattr(tokenizer, "name_or_path", "")), fix=fix)
