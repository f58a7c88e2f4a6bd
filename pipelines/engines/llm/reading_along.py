"""An answer handed on while it is written: without thoughts, and without what may be the beginning of its ending."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.engines.llm.ask import Closing
from pipelines.judging.parse import begins_verdict, may_be_label, may_open_verdict, strip_label
from pipelines.judging.thoughts import Listening, Thinking

OnText = Callable[[str], None]


class ReadingAlong:
    """Hands on the pieces of an answer.

    Args:
        on_text: called with each of them.
        thinking: how the model marks its thoughts.
        closing: how the answer must end: its label and what follows are held back.
    """

    def __init__(self, on_text: OnText, thinking: Thinking | None, closing: Closing | None = None) -> None:
        self.on_text, self.closing = on_text, closing
        self.heard = Listening(thinking, finished=False)
        self.shown = 0  # characters

    def hear(self, piece: str) -> None:
        """Take a further piece of what the model writes, thoughts and all."""
        self.heard.hear(piece)
        if self.heard.settled:
            self._show(self._certain(self.heard.answer))

    def end(self, answer: str) -> None:
        """Hand on the rest, now that the whole answer is known, without thoughts and ending."""
        self._show(answer)

    def _certain(self, text: str) -> str:
        """The part of a text that is surely not of the ending."""
        if self.closing is None:
            return text
        label = self.closing.label
        if self.closing.on_a_line:
            start = text.rfind("\n", 0, self.shown) + 1
            for line in text[start:].split("\n"):
                last = start + len(line) == len(text)
                begun = line.lstrip()
                if begun.startswith(label) or (may_open_verdict(line) if last else begins_verdict(line)):
                    break
                if last and label.startswith(begun.rstrip()):
                    break
                start += len(line) + 1
            return text[:start].rstrip()
        place = text.find(label)
        if place < 0:
            sizes = range(min(len(label), len(text)), 0, -1)
            place = len(text) - next((size for size in sizes if text.endswith(label[:size])), 0)
        return text[:place].rstrip()

    def _show(self, text: str) -> None:
        if len(text) > self.shown:
            piece, self.shown = text[self.shown :], len(text)
            self.on_text(piece)


class CritiqueAlong:
    """Hands on a critique without its `Reasoning:` label.

    Args:
        on_text: called with each piece of it.
    """

    def __init__(self, on_text: OnText) -> None:
        self.on_text, self.text, self.shown = on_text, "", 0

    def hear(self, piece: str) -> None:
        """Take a further piece of the critique, label and all."""
        self.text += piece
        if not may_be_label(self.text):
            self.end(strip_label(self.text))

    def end(self, critique: str) -> None:
        """Hand on the rest of a critique."""
        if len(critique) > self.shown:
            piece, self.shown = critique[self.shown :], len(critique)
            self.on_text(piece)
