"""What a comparison of two models allows one to say, and the facts without which it would mislead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipelines.evaluation.scoring.intervals import Interval

READ = 0.95  # share of verdicts that must be read for two models' figures to be about the same thing
CONSISTENT = 0.5  # share of pairs with the same response in both orders, below which the order decides more


class Standing(Protocol):
    """One model's figure, and what must stand beside it."""

    @property
    def ci_low(self) -> float | None: ...
    @property
    def parse_rate(self) -> float | None: ...
    @property
    def baseline(self) -> float | None: ...
    @property
    def chance(self) -> float | None: ...
    @property
    def consistency(self) -> tuple[float | None, int]: ...


@dataclass(frozen=True)
class Said:
    """One difference.

    Attributes:
        where: a benchmark, or the tasks.
        metric: name of the figure.
        value: the difference.
        interval: of it.
        why: why there is none.
        n: rows that both models judged.
        sign: `higher` or `lower` where it is more than chance.
        confidence: of the interval.
    """

    where: str
    metric: str
    value: float | None
    interval: Interval
    why: str
    n: int
    sign: str
    confidence: float


def sentence(said: Said, names: tuple[str, str], sides: tuple[Standing, Standing]) -> str:
    """One line. `better` or `worse` only of judges that were read, beat one verdict for all rows, and keep to it.

    Args:
        said: the difference.
        names: of the one model and of the other.
        sides: their figures.
    """
    model, base = names
    where, facts = said.where, _facts(names, sides)
    if said.value is None:
        return f"{where}: {model} and {base} cannot be compared, {said.metric} is not defined (n = {said.n}). {facts}"
    low, high = said.interval
    if low is None or high is None:
        why = f"no interval: {said.why}, " if said.why else "without an interval, "
        return f"{where}: {model} − {base} is {said.value:+.3f} {said.metric} ({why}n = {said.n}). {facts}"
    figures = f"{said.value:+.3f} {said.metric}, {said.confidence:.0%} interval {low:+.3f} to {high:+.3f}, n = {said.n}"
    if not said.sign:
        why = "which includes 0" if low <= 0 <= high else "chance among several comparisons"
        return f"{where}: no difference between {model} and {base} is shown ({figures}, {why}). {facts}"
    winner, side = (model, sides[0]) if said.sign == "higher" else (base, sides[1])
    if doubts := _doubts(winner, side, names, sides):
        return f"{where}: {model} scores {said.sign} than {base} ({figures}), but {'; '.join(doubts)}. {facts}"
    return f"{where}: {model} is {'better' if said.sign == 'higher' else 'worse'} than {base} ({figures}). {facts}"


def _doubts(winner: str, side: Standing, names: tuple[str, str], sides: tuple[Standing, Standing]) -> list[str]:
    """Why a higher figure does not make a better judge."""
    doubts = []
    if any((one.parse_rate or 0.0) < READ for one in sides):
        doubts += [
            f"{percent(one.parse_rate)} of {name}'s verdicts could be read"
            for name, one in zip(names, sides, strict=True)
            if (one.parse_rate or 0.0) < READ
        ]
    if side.baseline is not None and (side.ci_low is None or side.ci_low <= side.baseline):
        doubts.append(f"{winner} is not shown to be above giving one verdict everywhere ({side.baseline:.3f})")
    elif side.chance is not None and (side.ci_low is None or side.ci_low <= side.chance):
        doubts.append(f"{winner} is not shown to be above guessing ({side.chance:.3f})")
    share, pairs = side.consistency
    if share is not None and share < CONSISTENT:
        doubts.append(f"{winner} names the same response in both orders in {share:.0%} of {pairs} pairs")
    return doubts


def _facts(names: tuple[str, str], sides: tuple[Standing, Standing]) -> str:
    """Read rate, one verdict everywhere, guessing, and consistency: always said."""
    both = list(zip(names, sides, strict=True))
    facts = [f"Read: {', '.join(f'{name} {percent(one.parse_rate)}' for name, one in both)}"]
    mine = sides[0]
    if mine.baseline is not None:
        facts.append(f"one verdict everywhere: {mine.baseline:.3f}")
    if mine.chance is not None:
        facts.append(f"guessing: {mine.chance:.3f}")
    if any(one.consistency[1] for one in sides):
        shares = (f"{name} {percent(share)} of {n}" for name, (share, n) in ((x, y.consistency) for x, y in both))
        facts.append(f"same response in both orders: {', '.join(shares)}")
    return "; ".join(facts) + "."


def percent(share: float | None) -> str:
    """A share in whole percent that never rounds to all or to none."""
    if share is None:
        return "none"
    if 0 < share < 0.01:
        return "<1%"
    return ">99%" if 0.99 < share < 1 else f"{share:.0%}"
