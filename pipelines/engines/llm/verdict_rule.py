"""What one answer may go on with, so that it ends with a verdict: free text, a label, one of some endings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipelines.engines.llm.verdict_tokens import Path, Tree, tree_of
from pipelines.judging.parse import opens_verdict
from pipelines.judging.thoughts import NEVER, Listening, Thinking

ENDING = "openselene_ending"  # of vLLM's SamplingParams.extra_args: `Ending.values()`
PROCESSOR = "pipelines.engines.llm.verdict_processor:VerdictProcessor"  # of vLLM's logits_processors
Spell = Callable[[int], str]  # the text that a further token adds to those before it
Encode = Callable[[str], Sequence[int]]
_MARKS = "*_"


class Mark(NamedTuple):
    """How thoughts begin and end, and the ids that end them."""

    start: str
    end: str
    ids: Path


@dataclass(frozen=True)
class Ending:
    """How an answer must end, as plain values that travel to the engine with its request.

    Attributes:
        label: text before the verdict.
        on_a_line: whether the label stands at the beginning of a line.
        budget: most tokens before the label is put there.
        start, line, text: ids that put it there (`ClosingTokens`).
        paths, bare: ids after it, of each verdict.
        ends: ids that end the model's turn.
        marks: of thoughts, where the model may think.
        thinking: the marks are known, and what is known of them: opened, expected; None where they are not.
    """

    label: str
    on_a_line: bool
    budget: int
    start: Path
    line: Path
    text: Path
    paths: tuple[Path, ...]
    bare: tuple[Path, ...]
    ends: Path
    marks: tuple[Mark, ...] = ()
    thinking: tuple[bool, bool] | None = (False, False)

    @classmethod
    def read(cls, values: Any) -> Ending:
        """From `values()` that were sent.

        Raises:
            ValueError: they are malformed.
        """
        try:
            found = cls(
                label=str(values["label"]),
                on_a_line=bool(values["on_a_line"]),
                budget=int(values["budget"]),
                start=_path(values["start"]),
                line=_path(values["line"]),
                text=_path(values["text"]),
                paths=tuple(map(_path, values["paths"])),
                bare=tuple(map(_path, values["bare"])),
                ends=_path(values["ends"]),
                marks=tuple(Mark(str(start), str(end), _path(ids)) for start, end, ids in values["marks"]),
                thinking=values["thinking"] and (bool(values["thinking"][0]), bool(values["thinking"][1])),
            )
        except (KeyError, TypeError, IndexError) as exc:
            raise ValueError(f"not an ending: {type(exc).__name__}: {exc}") from None
        ways = (found.start, found.line, found.text, found.ends, *found.paths, *found.bare)
        if not found.label or not found.paths or len(found.paths) != len(found.bare) or not all(ways):
            raise ValueError("an ending has a label, verdicts, and ids for each part")
        return found

    def values(self) -> dict[str, Any]:
        """Plain values, for `SamplingParams.extra_args`."""
        return dict(vars(self))

    def known_thinking(self) -> Thinking | None:
        """The marks of thoughts as `part` takes them."""
        if self.thinking is None:
            return None
        return Thinking(self.marks[0].start, self.marks[0].end, *self.thinking) if self.marks else NEVER


class Rule:
    """The state of one answer. It follows from the answer's tokens and from where the label was put there.

    Args:
        ending: how the answer must end.
        tokens: the answer's ids so far: a list that grows.
        speller: makes a `Spell` that starts with the answer's first token.
        encode: ids of a stretch of plain text.
    """

    def __init__(self, ending: Ending, tokens: list[int], speller: Callable[[], Spell], encode: Encode) -> None:
        self.ending, self.tokens, self.speller, self.encode = ending, tokens, speller, encode
        self.tree, self.bare = tree_of(ending.paths), tree_of(ending.bare)
        self._restart()

    def _restart(self) -> None:
        self.seen = 0  # tokens that were read as free text
        self.at: int | None = None  # where the rest of the answer began to be confined
        self.rest: Tree = {}  # to what
        self.spell = self.speller()
        self.heard = Listening(self.ending.known_thinking(), finished=True)
        self.last = ""  # the answer's last line

    def allowed(self) -> list[int] | None:
        """The tokens that may follow, or None while the text is free."""
        if len(self.tokens) < max(self.seen, self.at or 0):  # the engine took some back
            self._restart()
        while self.at is None and self.seen < len(self.tokens):
            self._read(self.tokens[self.seen])
        if self.at is None and self.seen >= self.ending.budget:
            self.close(self.seen)
        if self.at is None:
            return None
        node = self.rest
        for token in self.tokens[self.at :]:
            node = node.get(token, {})
        return list(node) or [self.ending.ends[0]]

    def close(self, at: int) -> None:
        """Put the label there, after `at` tokens that were all read, and a verdict after it."""
        self.at, self.rest = at, self.tree
        for token in reversed(self.label()):
            self.rest = {token: self.rest}

    def label(self) -> Sequence[int]:
        """The ids that put the label there, after the text so far."""
        ending = self.ending
        if self.heard.open:
            first = self.heard.text.lstrip()
            mark = next((one for one in ending.marks if first.startswith(one.start.rstrip())), ending.marks[0])
            return (*mark.ids, *ending.text)
        if not self.heard.text:
            return ending.start
        begun = self.last.lstrip()
        if begun and ending.label.startswith(begun):  # the model was about to write it
            return self.encode(ending.label[len(begun) :])
        blank = not (self.heard.settled or self.heard.answer.strip())
        at_a_line = ending.on_a_line and self.heard.answer.endswith("\n")
        return ending.line if blank or at_a_line else ending.text

    def _read(self, token: int) -> None:
        self.seen += 1
        piece, settled = self.spell(token), self.heard.settled
        self.heard.hear(piece)
        if self.heard.open:
            self.last = ""
            return
        said = self.last + piece if settled else self.heard.answer
        self.last = said.rpartition("\n")[2]
        line = said.rstrip().rpartition("\n")[2]  # one token may hold the end of the label and that of its line
        if line and self._is_label(line):
            self.at, self.rest = self.seen, self._after(line)

    def _is_label(self, line: str) -> bool:
        if not self.ending.on_a_line:
            return line.endswith(self.ending.label)
        return line.strip() == self.ending.label or opens_verdict(line)

    def _after(self, line: str) -> Tree:
        """What may follow a label that the model has written in its own way."""
        if self.heard.answer[-1:].isspace():
            return self.bare
        closing = self.encode(_unclosed(line.lstrip(), self.ending)) if self.ending.on_a_line else ()
        tree = self.tree
        for token in reversed(closing):
            tree = {token: tree}
        return {**tree, **self.tree}


def _unclosed(line: str, ending: Ending) -> str:
    """What a label that a line holds still lacks, such as the second `**` of bold."""
    if ending.label.startswith(line):
        return ending.label[len(line) :]
    marks = line[: len(line) - len(line.lstrip(_MARKS))]
    if len(marks) not in (1, 2) or line.count(marks[0]) >= 2 * len(marks):
        return ""
    return marks[len(line) - len(line.rstrip(_MARKS)) :]


def _path(ids: Any) -> Path:
    if not all(isinstance(token, int) and token >= 0 for token in ids):
        raise ValueError("ids are whole numbers")
    return tuple(ids)
