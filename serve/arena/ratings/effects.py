"""What moves votes besides the judges: the side they stand on, and the style of their critiques.

One logistic regression: a coefficient for each judge, one for side A, and one for each trait of style, as the
difference of the two critiques. Ties are half a vote for either side. Judges' coefficients, on Elo's scale, are then
their strengths at equal style and side.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from serve.arena.ratings.elo import SCALE, START
from serve.arena.ratings.vote import Vote

LEAST = 50  # votes
MARKUP = re.compile(r"^\s{0,3}(?:#{1,6}\s|[-*+]\s|\d+[.)]\s)|\*\*[^*\n]+\*\*", re.MULTILINE)


@dataclass(frozen=True)
class Style:
    """What a critique looks like: its length in characters, and its headings, list items and bold passages."""

    characters: int
    markup: int


def style_of(critique: str) -> Style:
    """The style of a critique."""
    return Style(len(critique), len(MARKUP.findall(critique)))


@dataclass(frozen=True)
class Effect:
    """Points of Elo's scale that a trait is worth, with its 95% interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Effects:
    """What else moves votes.

    Attributes:
        side_a: share of decided votes for side A, with Wilson's 95% interval; None without such votes.
        traits: side and style, each with the other and the judges held equal.
        controlled: judge -> its strength at equal style and side, in points.
        notes: why something is missing.
    """

    side_a: tuple[float, float, float] | None
    traits: list[Effect] = field(default_factory=list)
    controlled: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def effects(votes: Sequence[Vote], styles: Mapping[str, tuple[Style, Style]], rated: Sequence[str]) -> Effects:
    """Measure side and style.

    Args:
        votes: all of them.
        styles: battle -> style of A and of B.
        rated: judges with a Bradley-Terry strength; votes about others are left out.
    """
    from statsmodels.stats.proportion import proportion_confint

    decided = [vote.score for vote in votes if vote.score != 0.5]
    side = None
    if decided:
        won = int(sum(decided))
        low, high = proportion_confint(won, len(decided), method="wilson")
        side = (won / len(decided), float(low), float(high))
    kept = [vote for vote in votes if vote.judge_a in rated and vote.judge_b in rated and vote.battle in styles]
    if len(kept) < LEAST:
        return Effects(side, notes=[f"Effects of side and style are shown from {LEAST} votes on."])
    return _regress(kept, styles, sorted(rated), side)


def _regress(
    votes: Sequence[Vote],
    styles: Mapping[str, tuple[Style, Style]],
    judges: Sequence[str],
    side: tuple[float, float, float] | None,
) -> Effects:
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import PerfectSeparationError, PerfectSeparationWarning

    number = {name: place for place, name in enumerate(judges)}
    judged = np.zeros((len(votes), len(judges)))
    traits = np.ones((len(votes), 3))  # side A, length, markup
    for row, vote in enumerate(votes):
        judged[row, number[vote.judge_a]] += 1
        judged[row, number[vote.judge_b]] -= 1
        a, b = styles[vote.battle]
        traits[row, 1:] = _difference(a.characters, b.characters), _difference(a.markup, b.markup)
    names = ["standing on side A", "a critique twice as long", "twice as much markup"]
    varied = [column for column in range(3) if column == 0 or np.ptp(traits[:, column]) > 0]
    # The last judge is the others' zero point.
    table = np.hstack([judged[:, :-1], traits[:, varied]])
    if np.linalg.matrix_rank(table) < table.shape[1]:
        return Effects(side, notes=["Side and style cannot be told from the judges: they always go together."])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PerfectSeparationWarning)
            found = sm.GLM([vote.score for vote in votes], table, family=sm.families.Binomial()).fit()
    except (PerfectSeparationError, PerfectSeparationWarning):
        return Effects(side, notes=["Side and style foretell every vote: their effects have no finite size."])
    points = SCALE / np.log(10)
    strengths = np.append(np.asarray(found.params)[: len(judges) - 1], 0.0)
    strengths = START + points * (strengths - strengths.mean())
    limits = np.asarray(found.conf_int())[len(judges) - 1 :] * points
    values = np.asarray(found.params)[len(judges) - 1 :] * points
    shown = [
        Effect(names[column], float(value), float(low), float(high))
        for column, value, (low, high) in zip(varied, values, limits, strict=True)
    ]
    return Effects(side, shown, dict(zip(judges, map(float, strengths), strict=True)))


def _difference(a: int, b: int) -> float:
    """How much more A has, in doublings; one is added so that nothing is twice nothing."""
    return float(np.log2((a + 1) / (b + 1)))
