"""Which verdicts a new version of a judge turns: two services asked the same questions, before traffic moves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.evaluation.scoring.flips import Flips, Pair, Said, flips_of
from serve.client import Judge


def flips(old: Judge, new: Judge, lines: Iterable[Mapping[str, Any]]) -> Flips:
    """Ask both services, one after the other. A line with several criteria has a judgment of each; intervals are over
    lines.

    Args:
        old: the service that has the traffic.
        new: the one that is to have it.
        lines: of a batch, as for `Judge.batch`.

    Returns:
        The flips; lines that one of them did not judge are `lost`, with its code.

    Raises:
        JudgeError: one of them cannot be reached, or refuses the batch.
    """
    asked = [{"id": f"line {number}", **line} for number, line in enumerate(lines, 1)]
    answers = [{str(line.id): line for line in judge.batch(asked)} for judge in (old, new)]
    pairs: list[Pair] = []
    lost: dict[str, str] = {}
    for name in (str(line["id"]) for line in asked):
        one, two = (found.get(name) for found in answers)
        if not (one and two and one.result and two.result):
            errors = [line.error.code for line in (one, two) if line and line.error]
            lost[name] = errors[0] if errors else "no_answer"
            continue
        for before, after in zip(one.result.results, two.result.results, strict=True):
            was, now = (Said(str(said.verdict), said.probabilities) for said in (before, after))
            pairs.append(Pair(name, name, was, now))
    return flips_of(pairs, lost)
