"""Count tokens several times as fast as the model's own tokenizer, which is used wherever the two may differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from pipelines.core.errors import UserError
from pipelines.judging.chat import encode_completions, encode_prompts, encode_texts, unmarked_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Texts that tokenizers disagree about. The fast one is used only if it agrees with the model's own on all of them.
PROBES = (
    "",
    " ",
    "   three spaces, a tab\tand lines\n\n\nthen\r\nWindows'\n  indented",
    "I'll don't WE'VE they're o'clock \u2018curly\u2019 \u201cquotes\u201d \u2014 dash\u2026",
    "1 12 123 1234567 3.14159 1,000,000.50 -5e-10 0x7f 50% $9.99 \u20ac3 \u00bd \u00b2",
    "na\u00efve caf\u00e9 cafe\u0301 Stra\u00dfe \u0130stanbul \u0142\u00f3d\u017a \u03b1\u03b2\u03b3 \u0434\u0430",
    "\u65e5\u672c\u8a9e \u4e2d\u6587 \ud55c\uad6d\uc5b4 \u0627\u0644\u0639 \u05e2\u05d1 \u0939\u093f \u0e44",
    "\U0001f389 \U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f \u00a0nbsp\u200bzero\u3000wide \U0001d49c",
    'def f(x):\n    return {\'a\': [1, 2], "b": x**2}  # ok?!\n\t\t<div class="x">&amp;</div>',
    "https://example.org/a_b-c?d=e&f=%20#g user@example.org C:\\Temp\\x.txt snake_case camelCase",
    "\\frac{a}{b} \\leq \\sum_{i=1}^{n} x_i^2 $$ ||| === *** --- ... !!! ??? ((( ))) [[ ]] {{ }} ~~ ``` ## @@",
    "<|im_start|>user\n<|endoftext|></s>[INST]<|eot_id|> \x14\x00 end",
    "antidisestablishmentarianism zzzzzzzzzzzz aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa QWERTY",
)


class Facts(NamedTuple):
    """What counting needs of a tokenizer: small enough to keep, while the tokenizer takes seconds to load.

    Attributes:
        around: tokens of the chat template around a message.
        end: tokens that end an answer; None if the chat template cannot be trained on, for the reason `problem`.
        definition: in the format of the tokenizers library, if fastokens agrees with the tokenizer; else None.
        literal: tokens that are read as characters though the tokenizer does not call them special.
    """

    around: int
    end: int | None
    definition: str | None
    literal: list[str]
    problem: str = ""


def find_facts(tokenizer: PreTrainedTokenizerBase) -> Facts:
    """Read them from the tokenizer, and try fastokens on the probes.

    Raises:
        UserError: the chat template is not usable.
    """
    around = len(encode_prompts(tokenizer, [""])[0])
    try:
        end, problem = len(encode_completions(tokenizer, [""])[0]), ""
    except UserError as unusable:  # it may still judge
        end, problem = None, unusable.what
    return Facts(around, end, _agreed(tokenizer, around, end), unmarked_tokens(tokenizer), problem)


class TokenCounter:
    """Counts the tokens that `encode_texts`, `encode_prompts` and `encode_completions` would make.

    fastokens (https://github.com/crusoecloud/fastokens) reads the tokenizer's own definition and is several times as
    fast. The model's tokenizer is used if fastokens cannot read the definition, disagrees on a probe, or fails on a
    text.

    Args:
        facts: of the tokenizer.
        load: returns the tokenizer; called when it is first needed, which is often never.
    """

    def __init__(self, facts: Facts, load: Callable[[], PreTrainedTokenizerBase]) -> None:
        from fastokens import Tokenizer

        self.facts, self._load = facts, load
        self._quick = Tokenizer.from_json_str(facts.definition) if facts.definition else None

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's own."""
        return self._load()

    def texts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of plain texts."""
        if self._quick is None:
            return [len(ids) for ids in encode_texts(self.tokenizer, texts)]
        return [self._text(text) for text in texts]

    def _text(self, text: str) -> int:
        try:
            if any(token in text for token in self.facts.literal):
                return len(encode_texts(self.tokenizer, [text])[0])
            return len(self._quick.encode_ordinary(text))  # type: ignore[union-attr]
        except ValueError:  # its regular expressions have a limited stack
            return len(encode_texts(self.tokenizer, [text])[0])

    def prompts(self, messages: Sequence[str]) -> list[int]:
        """Tokens of one-turn chats: the messages and the chat template around them."""
        if self._quick is None:
            return [len(ids) for ids in encode_prompts(self.tokenizer, messages)]
        return [self.facts.around + count for count in self.texts([message.strip() for message in messages])]

    def completions(self, texts: Sequence[str]) -> list[int]:
        """Tokens of answers, each with the token that ends a turn.

        Raises:
            UserError: the chat template cannot be trained on.
        """
        if self.facts.end is None or self._quick is None:
            return [len(ids) for ids in encode_completions(self.tokenizer, texts)]
        return [self.facts.end + count for count in self.texts([text.strip() for text in texts])]


def _agreed(tokenizer: PreTrainedTokenizerBase, around: int, end: int | None) -> str | None:
    """The tokenizer's definition, if fastokens can read it and agrees with the tokenizer on every probe.

    Probes also stand within the chat template: where a text's first letters share a token with it, the sum is wrong.
    """
    from fastokens import Tokenizer

    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    try:
        definition: str = backend.to_str()
        quick = Tokenizer.from_json_str(definition)
        ids = [quick.encode_ordinary(text).ids for text in PROBES]
    except ValueError:  # an unknown kind of definition
        return None
    if ids != encode_texts(tokenizer, PROBES):
        return None
    lengths = [len(quick.encode_ordinary(text.strip()).ids) for text in PROBES]
    for encode, more in ((encode_prompts, around), (encode_completions, end)):
        if more is not None and [len(found) for found in encode(tokenizer, PROBES)] != [more + n for n in lengths]:
            return None
    return definition
