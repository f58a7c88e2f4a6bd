"""What a visitor can say of a battle, and what it is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Choice = Literal["a", "b", "tie", "both_bad"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
# Of the judge on side A; the other side has the rest. The paper's arena knows A, B and a tie worth 0.5; that two bad
# judges are a tie is ours.
SCORE: dict[str, float] = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}


@dataclass(frozen=True, slots=True)
class Vote:
    """One vote.

    Attributes:
        sequence: its place among all votes, from 1 on, without a gap.
        battle: id of the battle.
        judge_a: who was shown as A.
        judge_b: who was shown as B.
        choice: what the visitor said.
        visitor: keyed hash of the visitor's address; empty where it is not known.
    """

    sequence: int
    battle: str
    judge_a: str
    judge_b: str
    choice: Choice
    visitor: str = ""

    @property
    def score(self) -> float:
        """Points of side A."""
        return SCORE[self.choice]
