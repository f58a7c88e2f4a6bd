"""The question whether a critique supports a verdict, for training data and for benchmark judgments (§2.3)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pipelines.core.records import Row
from pipelines.judging.templates import load, render

Mode = Literal["prompted", "blind"]


class Question(NamedTuple):
    """A prompt, the closed set of its answers, and the one that means that critique and verdict agree."""

    prompt: str
    choices: list[str]
    agrees: str

    @property
    def max_tokens(self) -> int:
        """Room for the longest answer and the end of a turn, whatever the tokenizer: a token is at least one byte."""
        return max(len(choice.encode()) for choice in self.choices) + 1


def question(mode: Mode, row: Row, critique: str, verdict: str) -> Question:
    """`prompted` asks whether critique and verdict agree; `blind` hides the verdict and asks which one is supported."""
    choices, agrees = (list(row["allowed"]), verdict) if mode == "blind" else (["Yes", "No"], "Yes")
    return Question(render(load(f"check_{mode}"), row, critique=critique, verdict=verdict), choices, agrees)
