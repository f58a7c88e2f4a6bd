"""Ollama's Modelfile: the chat template in Go's words, the stop tokens, temperature 0."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.core.errors import UserError
from pipelines.judging.chat_template import answering, control_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]
# In place of texts while the chat template is applied.
_SYSTEM, _FIRST, _ANSWER, _SECOND = "OPENSELENESYSTEM", "OPENSELENEFIRST", "OPENSELENEANSWER", "OPENSELENESECOND"


@dataclass(frozen=True)
class Pieces:
    """What a chat template writes around messages.

    Attributes:
        head: before the first message, whatever it is: most often the token that begins a text.
        preset: in place of a system message where there is none.
        system: around a system message; None where the template takes none.
        user: around the user's message.
        assistant: around an answer that is followed by another message.
        opening: after the last message, up to where the answer begins.
    """

    head: str
    preset: str
    system: tuple[str, str] | None
    user: tuple[str, str]
    assistant: tuple[str, str]
    opening: str

    def render(self, messages: Sequence[Message]) -> str:
        """A conversation as the Go template writes it."""
        around = {"system": self.system or ("", ""), "user": self.user, "assistant": self.assistant}
        turns = "".join(f"{around[one['role']][0]}{one['content']}{around[one['role']][1]}" for one in messages)
        return f"{self.head}{'' if messages[0]['role'] == 'system' else self.preset}{turns}{self.opening}"


def pieces_of(tokenizer: PreTrainedTokenizerBase) -> Pieces:
    """Take a chat template apart, and check that the pieces make whole conversations again.

    Raises:
        UserError: the template does more than to put texts between its own.
    """
    one, answered, told = _conversations()
    shown, closed, longer = _shown(tokenizer, one), _shown(tokenizer, one, opening=False), _shown(tokenizer, answered)
    if shown is None or closed is None or longer is None or not shown.startswith(closed):
        raise _refused(tokenizer, "its prompts do not begin as its conversations do")
    if any(text.count(mark) != 1 for text, mark in ((closed, _FIRST), (longer, _ANSWER), (longer, _SECOND))):
        raise _refused(tokenizer, "it hides or repeats a message")
    before, _, user_end = closed.partition(_FIRST)
    between = longer.partition(_FIRST)[2].partition(_ANSWER)[0]  # end of the user's turn, begin of the answer
    turn = longer.partition(_ANSWER)[2].partition(_SECOND)[0]  # end of the answer, begin of the user's turn
    if not between.startswith(user_end):
        raise _refused(tokenizer, "the end of a user's turn depends on what follows")
    # White space after the token that ends an answer belongs to the answer's turn.
    start = _shared_end(tokenizer, before, turn.removeprefix(answering(tokenizer).end).lstrip())
    assistant = (between[len(user_end) :], turn.removesuffix(start))
    system = _system(tokenizer, told, start)
    bos = tokenizer.bos_token or ""
    head = bos if bos and before.startswith(bos) and not start.startswith(bos) else ""
    preset = before.removesuffix(start).removeprefix(head)
    found = Pieces(
        head=head,
        preset=preset,
        system=system and (system[0].removeprefix(head), system[1]),
        user=(start, user_end),
        assistant=assistant,
        opening=shown[len(closed) :],
    )
    for conversation in (
        one,
        answered,
        [*answered, *answered[1:]],
        *((told, [*told, *answered[1:]]) if system else ()),
    ):
        if found.render(conversation) != _shown(tokenizer, conversation):
            raise _refused(tokenizer, "its text around messages depends on more than their roles")
    return found


def _system(tokenizer: PreTrainedTokenizerBase, told: list[Message], user_start: str) -> tuple[str, str] | None:
    """What stands around a system message; None where the template takes none, or puts it into the user's turn."""
    shown = _shown(tokenizer, told)
    if shown is None or shown.count(_SYSTEM) != 1:
        return None
    before, _, after = shown.partition(_SYSTEM)
    ending = after.partition(_FIRST)[0]
    return (before, ending.removesuffix(user_start)) if ending.endswith(user_start) else None


def go_template(pieces: Pieces, *, without: str = "") -> str:
    """The chat template in Go's words.

    Args:
        pieces: of the template.
        without: text that the engine puts at the beginning by itself, such as the token that begins a text.
    """
    preset = ""
    if pieces.preset:
        preset = '{{ if ne (index .Messages 0).Role "system" }}' + _text(pieces.preset) + "{{ end }}"
    around = {"system": pieces.system, "user": pieces.user, "assistant": pieces.assistant}
    turns = [
        f'if eq .Role "{role}" }}}}{_text(pair[0])}{{{{ .Content }}}}{_text(pair[1])}'
        for role, pair in around.items()
        if pair
    ]
    every = "{{ range .Messages }}{{ " + "{{ else ".join(turns) + "{{ end }}{{ end }}"
    return _text(pieces.head.removeprefix(without)) + preset + every + _text(pieces.opening)


def modelfile(file: str, template: str, stops: Sequence[str], context: int, licence: str) -> str:
    """The text of a Modelfile.

    Args:
        file: the GGUF file, beside it.
        template: in Go's words.
        stops: texts that end an answer.
        context: tokens of prompt and answer.
        licence: name of the licence.
    """
    lines = [f"FROM ./{file}", f'TEMPLATE """{template}"""', "PARAMETER temperature 0", f"PARAMETER num_ctx {context}"]
    lines += [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}" for stop in stops]
    return "\n".join([*lines, f'LICENSE """{licence}"""', ""])


def stops_of(tokenizer: PreTrainedTokenizerBase, pieces: Pieces) -> list[str]:
    """Texts that end an answer: the token after it, and the tokenizer's own end of text."""
    controls = [token.content for token in tokenizer.added_tokens_decoder.values()]
    ends = [one for one in controls if pieces.assistant[1].lstrip().startswith(one)]
    last = max(ends, key=len) if ends else None
    return list(dict.fromkeys(stop for stop in (last, tokenizer.eos_token) if stop))


def _conversations() -> tuple[list[Message], list[Message], list[Message]]:
    first = {"role": "user", "content": _FIRST}
    more = [{"role": "assistant", "content": _ANSWER}, {"role": "user", "content": _SECOND}]
    return [first], [first, *more], [{"role": "system", "content": _SYSTEM}, first]


def _shown(tokenizer: PreTrainedTokenizerBase, messages: list[Message], *, opening: bool = True) -> str | None:
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opening))
    except Exception:  # a template may raise anything, as some do of a system message
        return None


def _shared_end(tokenizer: PreTrainedTokenizerBase, one: str, two: str) -> str:
    """The longest end that two texts share, in whole control tokens: `<s>` and `</s>` share none."""
    controls = sorted(control_tokens(tokenizer).values(), key=len, reverse=True)
    pattern = "|".join(map(re.escape, controls))
    first, second = ([part for part in re.split(f"({pattern})", text) if part] for text in (one, two))
    count = 0
    while count < min(len(first), len(second)) and first[-count - 1] == second[-count - 1]:
        count += 1
    return "".join(first[len(first) - count :])


def _text(text: str) -> str:
    """A text of the template that Go writes as it is."""
    if '"""' in text or "{{" in text or "}}" in text:
        return "{{ " + json.dumps(text, ensure_ascii=False) + " }}" if text else ""
    return text


def _refused(tokenizer: PreTrainedTokenizerBase, why: str) -> UserError:
    where = str(getattr(tokenizer, "name_or_path", ""))
    return UserError(
        f"the chat template cannot be written as one of Ollama's: {why}", where=where, fix="release.gguf.types=[]"
    )
