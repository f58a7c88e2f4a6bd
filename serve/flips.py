"""Which verdicts a new version of a judge turns: two services asked the same questions, before traffic moves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.evaluation.scoring.intervals import of_mean
from serve.client import Judge


@dataclass
class Flips:
    """What two services say of the same lines.

    Attributes:
        share: of the judgments that both made, those with another verdict; None if there are none.
        interval: of the share, 95%, over lines.
        compared: judgments that both made; a line with several criteria has one each.
        lost: lines that one of them did not judge, with its code.
        turned: old and new verdict, and how often.
        largest: the lines whose probabilities differ most, with that difference.
    """

    share: float | None
    interval: tuple[float | None, float | None]
    compared: int
    lost: dict[str, str] = field(default_factory=dict)
    turned: dict[str, int] = field(default_factory=dict)
    largest: list[tuple[str, float]] = field(default_factory=list)


def flips(old: Judge, new: Judge, lines: Iterable[Mapping[str, Any]]) -> Flips:
    """Ask both services, one after the other.

    Args:
        old: the service that has the traffic.
        new: the one that is to have it.
        lines: of a batch, as for `Judge.batch`.

    Raises:
        JudgeError: one of them cannot be reached, or refuses the batch.
    """
    asked = [{"id": f"line {number}", **line} for number, line in enumerate(lines, 1)]
    answers = [{str(line.id): line for line in judge.batch(asked)} for judge in (old, new)]
    differs: list[float] = []
    groups: list[str] = []
    turned: Counter[str] = Counter()
    distance: dict[str, float] = {}
    lost: dict[str, str] = {}
    for name in (str(line["id"]) for line in asked):
        one, two = (found.get(name) for found in answers)
        if not (one and two and one.result and two.result):
            errors = [line.error.code for line in (one, two) if line and line.error]
            lost[name] = errors[0] if errors else "no_answer"
            continue
        for before, after in zip(one.result.results, two.result.results, strict=True):
            groups.append(name)
            differs.append(float(before.verdict != after.verdict))
            if before.verdict != after.verdict:
                turned[f"{before.verdict} -> {after.verdict}"] += 1
            labels = before.probabilities.keys() | after.probabilities.keys()
            apart = sum(abs(before.probabilities.get(k, 0.0) - after.probabilities.get(k, 0.0)) for k in labels) / 2
            distance[name] = max(distance.get(name, 0.0), apart)
    share = of_mean(differs, groups)
    return Flips(
        share=share.value,
        interval=share.interval(0.95),
        compared=len(differs),
        lost=lost,
        turned=dict(turned.most_common()),
        largest=sorted(distance.items(), key=lambda item: -item[1])[:10],
    )
