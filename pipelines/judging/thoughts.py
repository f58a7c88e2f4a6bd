"""Tell what a model thinks before its answer from the answer: thoughts are neither parsed nor trained on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from pipelines.judging.chat_template import asking

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Reasoning = Literal["auto", "none"] | tuple[str, str]

# Start and end of thoughts in models of public families.
MARKS = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, GLM, Nemotron, SmolLM3
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
    ("<|channel>thought\n", "<channel|>"),  # Gemma 4
)


class Thinking(NamedTuple):
    """How a model marks its thoughts.

    Attributes:
        start: text that opens them.
        end: text that closes them.
        opened: the prompt ends with `start`, so that the answer begins within the thoughts.
        expected: thoughts come first in every answer, even where `start` is not written.
    """

    start: str
    end: str
    opened: bool = False
    expected: bool = False


class Parted(NamedTuple):
    """What a model wrote, in two parts. `cut` says that its thoughts have no end, so that there is no answer."""

    thoughts: str
    answer: str
    cut: bool = False


NEVER = Thinking("", "")  # whatever the model writes is its answer


def thinking_of(reasoning: Reasoning, tokenizer: PreTrainedTokenizerBase | None = None) -> Thinking | None:
    """How a model marks its thoughts; None if it is not known to think.

    Args:
        reasoning: of the config: `none`, the marks, or `auto`: those in the tokenizer's chat template or vocabulary.
        tokenizer: of the model; None behind an endpoint.
    """
    if reasoning == "none":
        return NEVER
    prompt_end = asking(tokenizer).after.rstrip() if tokenizer else ""
    if not isinstance(reasoning, str):
        start, end = reasoning
        return Thinking(start, end, prompt_end.endswith(start.rstrip()), expected=True)
    if tokenizer is None:
        return None
    vocabulary, template = tokenizer.get_added_vocab(), str(tokenizer.chat_template or "")
    for start, end in MARKS:
        if start in template or end in template or {start, end} <= vocabulary.keys():
            opened = prompt_end.endswith(start.rstrip())
            return Thinking(start, end, opened, expected=opened)
    return None


def part(written: str, thinking: Thinking | None, *, finished: bool = True) -> Parted:
    """Part thoughts and answer.

    Marks are known for the model, or else one of MARKS is taken for a mark only where no prose has it: as the first
    thing written, or, if it is an end, alone on its line or before a blank one. Elsewhere it is text like any other.

    Args:
        written: everything the model wrote.
        thinking: the model's marks; None if they are not known.
        finished: the model ended by itself, not at the token limit.
    """
    if thinking == NEVER:
        return Parted("", written)
    known = [thinking] if thinking else [Thinking(*marks) for marks in MARKS]
    first = written.lstrip()
    for one in known:
        if first.startswith(one.start.rstrip()):
            return _from_start(first, one)
        if first.startswith(one.end):  # nothing was thought
            return _parted("", first[len(one.end) :], one)
    for one in known:
        inside = one.opened or one.expected
        mark = re.escape(one.end)
        alone = rf"^\s*{mark}\s*$|{mark}[^\S\n]*\n[^\S\n]*\n"
        end = re.search(mark if inside else alone, written, re.MULTILINE)
        if end:
            return _parted(written[: end.start()], written[end.end() :], one)
    if thinking and (thinking.opened or (thinking.expected and not finished)):
        return Parted(written.strip(), "", cut=True)
    return Parted("", written)


def _from_start(written: str, one: Thinking) -> Parted:
    thoughts, end, answer = written[len(one.start.rstrip()) :].partition(one.end)
    return _parted(thoughts, answer, one) if end else Parted(thoughts.strip(), "", cut=True)


def _parted(thoughts: str, answer: str, one: Thinking) -> Parted:
    """The two parts; further thoughts right at the answer's beginning join the first ones."""
    parts, answer = [thoughts.strip()], answer.lstrip()
    while answer.startswith(one.start):
        more, end, rest = answer[len(one.start) :].partition(one.end)
        if not end:
            return Parted("\n\n".join([*parts, more.strip()]).strip(), "", cut=True)
        parts, answer = [*parts, more.strip()], rest.lstrip()
    return Parted("\n\n".join(filter(None, parts)), answer)


class Listening:
    """Thoughts and answer told apart while they are written, by `part`.

    Attributes:
        text: everything written so far.
        answer: of that, the answer.
        open: the thoughts have begun and not ended.
        settled: the answer has begun: whatever follows belongs to it.

    Args:
        thinking: the model's marks; None if they are not known.
        finished: of `part`: whether a text without an end of thoughts counts as an answer although thoughts are
            expected.
    """

    def __init__(self, thinking: Thinking | None, *, finished: bool) -> None:
        self.thinking, self.finished = thinking, finished
        marks = MARKS if thinking is None else () if thinking == NEVER else ((thinking.start, thinking.end),)
        self._starts = [start.rstrip() for start, _ in marks]
        self._ends = {end[-1] for _, end in marks}
        self.text = self.answer = ""
        self.open = self.settled = False
        self.hear("")

    def hear(self, piece: str) -> None:
        """Take a further piece of the text."""
        self.text += piece
        if self.settled:
            self.answer += piece
            return
        if self.open and self._ends.isdisjoint(piece):
            return
        parted = part(self.text, self.thinking, finished=self.finished)
        self.open, self.answer = parted.cut, parted.answer
        begun = self.answer.lstrip()
        may_think = any(start.startswith(begun) or begun.startswith(start) for start in self._starts)
        self.settled = bool(begun) and not may_think
