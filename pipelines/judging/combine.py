"""One judgment out of one or two: both orders of a pair, and the score that is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.judging.tasks import TASKS


@dataclass(frozen=True)
class Judged:
    """What one answer says, in the letters of the order that the judge saw.

    Attributes:
        verdict: one of the allowed verdicts; None if the answer has none.
        probabilities: of each allowed verdict; empty where they are not known.
    """

    verdict: str | None
    probabilities: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Combined:
    """What is told to the caller, in the letters of the order that the caller gave.

    Attributes:
        verdict: one of the allowed verdicts; None if no answer has one.
        probabilities: of each allowed verdict, in their order; empty where they are not known.
        expected_score: sum of score times probability; None for other tasks or without probabilities.
        consistent: whether both orders say the same; None if there is one order, or an answer without a verdict.
    """

    verdict: str | None
    probabilities: dict[str, float]
    expected_score: float | None = None
    consistent: bool | None = None


def combine(task: str, allowed: Sequence[str], given: Judged, swapped: Judged | None = None) -> Combined:
    """The judgment of one order, or of two by the mean of their probabilities.

    Of verdicts that are equally likely, the one of the given order is taken. Where an order has no probabilities, the
    verdict of the given order counts, or else that of the other.

    Args:
        task: `pairwise`, `absolute` or `classification`.
        allowed: the closed set of verdicts, in order.
        given: of the responses as the caller gave them.
        swapped: of the two responses the other way round, in the letters of that order.
    """
    if swapped is None:
        probabilities = _listed(given.probabilities, allowed)
        return Combined(given.verdict, probabilities, expected_score(task, probabilities))
    other = turned_back(task, swapped)
    consistent = None if given.verdict is None or other.verdict is None else given.verdict == other.verdict
    verdict, mean = given.verdict or other.verdict, {}
    if given.probabilities and other.probabilities:
        first, second = _listed(given.probabilities, allowed), _listed(other.probabilities, allowed)
        mean = {label: (first[label] + second[label]) / 2 for label in allowed}
        verdict = max(allowed, key=lambda label: (mean[label], label == given.verdict))
    return Combined(verdict, mean, expected_score(task, mean), consistent)


def turned_back(task: str, judged: Judged) -> Judged:
    """What an answer about the swapped responses says about them as the caller gave them."""
    opposite = TASKS[task].opposite
    verdict = None if judged.verdict is None else opposite(judged.verdict)
    return Judged(verdict, {opposite(label): share for label, share in judged.probabilities.items()})


def expected_score(task: str, probabilities: Mapping[str, float]) -> float | None:
    """The mean of the scores, each as likely as the judge finds it; None for other tasks or without probabilities."""
    if not TASKS[task].scored or not probabilities:
        return None
    return sum(float(score) * share for score, share in probabilities.items())


def _listed(probabilities: Mapping[str, float], allowed: Sequence[str]) -> dict[str, float]:
    return {label: probabilities.get(label, 0.0) for label in allowed} if probabilities else {}
