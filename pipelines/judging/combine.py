"""One judgment out of one or two: both orders of a pair, and the score that is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipelines.judging.tasks import TASKS


@dataclass(frozen=True)
class Judged:
    """What one answer says, in the letters of the order that the judge saw.

    Attributes:
        verdict: one of the allowed verdicts; None if the answer has none.
        probabilities: of each allowed verdict; empty where they are not known.
        critique: as written: in the swapped order, Response A is the caller's second.
        parse_status: how the verdict was read.
    """

    verdict: str | None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    critique: str = ""
    parse_status: str = "ok"


@dataclass(frozen=True)
class Combined:
    """What is told to the caller, in the letters of the order that the caller gave.

    Attributes:
        verdict: one of the allowed verdicts; None if no answer has one.
        probabilities: of each allowed verdict, in their order; empty where they are not known.
        expected_score: sum of score times probability; None for other tasks or without probabilities.
        consistent: whether both orders say the same; None if there is one order, or an answer without a verdict.
        critique: of an order that found this verdict, the given one first.
        parse_status: the first that is not `ok`, if there is one.
    """

    verdict: str | None
    probabilities: dict[str, float]
    expected_score: float | None = None
    consistent: bool | None = None
    critique: str = ""
    parse_status: str = "ok"


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
    orders = [given] if swapped is None else [given, turned_back(task, swapped)]
    verdict = next((one.verdict for one in orders if one.verdict is not None), None)
    shares: dict[str, float] = {}
    if all(one.probabilities for one in orders):
        shares = {label: sum(one.probabilities.get(label, 0.0) for one in orders) / len(orders) for label in allowed}
        if swapped is not None:
            verdict = max(allowed, key=lambda label: (shares[label], label == given.verdict))
    said = [one.verdict for one in orders]
    return Combined(
        verdict=verdict,
        probabilities=shares,
        expected_score=expected_score(task, shares),
        consistent=None if swapped is None or None in said else len(set(said)) == 1,
        critique=next((one for one in orders if one.verdict == verdict), given).critique,
        parse_status=next((one.parse_status for one in orders if one.parse_status != "ok"), "ok"),
    )


def turned_back(task: str, judged: Judged) -> Judged:
    """What an answer about the swapped responses says about them as the caller gave them."""
    opposite = TASKS[task].opposite
    verdict = None if judged.verdict is None else opposite(judged.verdict)
    shares = {opposite(label): share for label, share in judged.probabilities.items()}
    return replace(judged, verdict=verdict, probabilities=shares)


def expected_score(task: str, probabilities: Mapping[str, float]) -> float | None:
    """The mean of the scores, each as likely as the judge finds it; None for other tasks or without probabilities."""
    if not TASKS[task].scored or not probabilities:
        return None
    return sum(float(score) * share for score, share in probabilities.items())
