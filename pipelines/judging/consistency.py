"""The question whether a critique supports a verdict, for training data and for benchmark judgments (§2.3)."""

from __future__ import annotations

from collections.abc import Sequence
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
        """Of its answer."""
        return most_tokens(self.choices)


def answers(mode: Mode, allowed: Sequence[str]) -> list[str]:
    """The closed set of answers to the question about a row with these verdicts."""
    return list(allowed) if mode == "blind" else ["Yes", "No"]


def most_tokens(choices: Sequence[str]) -> int:
    """Room for the longest answer and the end of a turn, whatever the tokenizer: a token is at least one byte."""
    return max(len(choice.encode()) for choice in choices) + 1


def question(mode: Mode, row: Row, critique: str, verdict: str) -> Question:
    """`prompted` asks whether critique and verdict agree; `blind` hides the verdict and asks which one is supported."""
    prompt = render(load(f"check_{mode}"), row, critique=critique, verdict=verdict)
    return Question(prompt, answers(mode, row["allowed"]), verdict if mode == "blind" else "Yes")
