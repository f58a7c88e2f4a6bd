"""The three tasks: their responses, what their verdicts mean, and the metric that scores a judge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from pipelines.judging import closed_sets
from pipelines.judging.closed_sets import LEAST_DISTANCE


class Task:
    """One of the three tasks; other modules ask it in place of comparing names.

    Attributes:
        name: as in records and configs.
        responses: number of responses that a judge sees.
        verdicts: the closed set, unless a row or benchmark names another.
        metric: the headline figure of a benchmark.
        ordered: whether the responses can change places, and a verdict with them.
        scored: whether a verdict is a number on a scale.
        labels: whether verdicts are classes, which can be counted and balanced.
        endorses: whether a verdict can stand behind a response.
    """

    name: ClassVar[str]
    responses: ClassVar[int] = 1
    verdicts: ClassVar[tuple[str, ...]]
    metric: ClassVar[str] = "accuracy"
    ordered: ClassVar[bool] = False
    scored: ClassVar[bool] = False
    labels: ClassVar[bool] = False
    endorses: ClassVar[bool] = True

    @property
    def template(self) -> str:
        """The paper's prompt template."""
        return f"{self.name}_original"

    def opposite(self, verdict: str) -> str:
        """The same verdict after the responses are swapped."""
        return verdict

    def rejectable(self, verdict: str, allowed: Sequence[str]) -> list[str]:
        """The verdicts that contradict this one, of which one is chosen uniformly as the rejected one; may be empty."""
        return [label for label in allowed if label != verdict]

    def statement(self, verdict: str) -> str:
        """A critique that supports a verdict and nothing else, by construction."""
        raise NotImplementedError

    def endorsed(self, verdict: str, allowed: Sequence[str]) -> list[int]:
        """Positions of the responses that a verdict favours."""
        return []

    def listed(self, allowed: Sequence[str]) -> list[str]:
        """A closed set as rows hold it."""
        return list(allowed)

    def problem_of_verdicts(self, allowed: Sequence[str]) -> str | None:
        """Why a closed set does not suit the task, and what to map to what; None if it does."""
        return closed_sets.problem(allowed)

    @property
    def suitable(self) -> str:
        """What a closed set must be, in words that repeat none."""
        return "two or more different labels of one line each, without white space around them"

    def problem_of_gold(self, gold: str, allowed: Sequence[str]) -> str | None:
        """Why a judge cannot be measured by this verdict, as a row's reason; None if it can."""
        return None if gold in allowed else "gold_not_allowed"


class Pairwise(Task):
    """Which of two responses is better, with or without ties."""

    name = "pairwise"
    responses = 2
    verdicts = ("A", "B")
    ordered = True
    _OPPOSITE: ClassVar[dict[str, str]] = {"A": "B", "B": "A", "Tie": "Tie"}

    def opposite(self, verdict: str) -> str:
        """The same verdict after the responses are swapped.

        Raises:
            ValueError: it is none of the three: it may name a response, and would then name the wrong one.
        """
        if verdict not in self._OPPOSITE:
            raise ValueError(f"'{verdict}' is not A, B or Tie")
        return self._OPPOSITE[verdict]

    def rejectable(self, verdict: str, allowed: Sequence[str]) -> list[str]:
        """The other response; for a tie, either of the two."""
        other = self.opposite(verdict)
        return [other] if other != verdict else super().rejectable(verdict, allowed)

    def statement(self, verdict: str) -> str:
        if verdict == "Tie":
            return "Both responses are equally good; neither is better."
        return f"Response {verdict} is clearly the better of the two."

    def endorsed(self, verdict: str, allowed: Sequence[str]) -> list[int]:
        """The preferred response; in a tie both."""
        return {"A": [0], "B": [1]}.get(verdict, [0, 1])

    def problem_of_verdicts(self, allowed: Sequence[str]) -> str | None:
        return closed_sets.problem_pairwise(allowed)

    @property
    def suitable(self) -> str:
        return "A and B, or A, B and Tie"


class Absolute(Task):
    """A score on a scale."""

    name = "absolute"
    verdicts = ("1", "2", "3", "4", "5")
    metric = "pearson"
    scored = True

    def rejectable(self, verdict: str, allowed: Sequence[str]) -> list[str]:
        """Every score at least two away."""
        return [score for score in allowed if abs(int(score) - int(verdict)) >= LEAST_DISTANCE]

    def statement(self, verdict: str) -> str:
        return f"The response deserves a score of {verdict}, no more and no less."

    def endorsed(self, verdict: str, allowed: Sequence[str]) -> list[int]:
        """The response, where its score is above the middle of the scale."""
        scale = [float(value) for value in allowed]
        return [0] if float(verdict) > (min(scale) + max(scale)) / 2 else []

    def listed(self, allowed: Sequence[str]) -> list[str]:
        """Whole numbers in their usual form, from the lowest score to the highest."""
        return closed_sets.scale(allowed)

    def problem_of_verdicts(self, allowed: Sequence[str]) -> str | None:
        return closed_sets.problem_scale(allowed)

    @property
    def suitable(self) -> str:
        return f"two or more different integers, two of them at least {LEAST_DISTANCE} apart"

    def problem_of_gold(self, gold: str, allowed: Sequence[str]) -> str | None:
        """Gold may lie between two allowed verdicts, as a mean of raters does."""
        try:
            score = float(gold)
        except ValueError:
            return "gold_not_a_number"
        scale = [float(verdict) for verdict in allowed]
        return None if math.isfinite(score) and min(scale) <= score <= max(scale) else "gold_not_on_the_scale"


class Classification(Task):
    """A label that answers a question about a response."""

    name = "classification"
    verdicts = ("Yes", "No")
    labels = True
    endorses = False

    def statement(self, verdict: str) -> str:
        return f"The answer to the question is {verdict}."


TASKS: dict[str, Task] = {task.name: task for task in (Pairwise(), Absolute(), Classification())}
PAIRWISE, ABSOLUTE, CLASSIFICATION = TASKS.values()
