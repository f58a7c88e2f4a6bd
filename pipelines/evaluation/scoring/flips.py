"""Which verdicts one judge turns against another that was asked the same, and how far their probabilities are apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.evaluation.scoring.figures import Part
from pipelines.evaluation.scoring.intervals import Interval, of_mean

MARGINS = (0.0, 0.1, 0.3, 0.6)
"""Lower ends of the bins by margin: a flip where the judge was sure is another thing than one at a coin's toss."""
SHOWN = 10
LEAST = 1e-12  # probability, so that a verdict which one judge rules out has a finite divergence


@dataclass(frozen=True)
class Said:
    """One judge's word on one question: its verdict, and its probability of each allowed one where it tells them."""

    verdict: str
    probabilities: Mapping[str, float] = field(default_factory=dict)

    @property
    def margin(self) -> float | None:
        """Probability of the likeliest verdict minus that of the next; None without probabilities."""
        best = sorted(self.probabilities.values(), reverse=True)
        return best[0] - best[1] if len(best) > 1 else None


@dataclass(frozen=True)
class Pair:
    """What two judges said of one question.

    Attributes:
        name: of what was asked; several questions may share one, such as criteria of a line.
        group: related questions share it: they are not independent.
    """

    name: str
    group: str
    old: Said
    new: Said

    @property
    def turned(self) -> bool:
        """Whether the verdicts differ."""
        return self.old.verdict != self.new.verdict


@dataclass
class Flips:
    """What two judges say of the same questions.

    Attributes:
        share: of the judgments that both made, those with another verdict; None if there are none.
        interval: of the share, 95%, over groups.
        compared: judgments that both made.
        lost: questions that one of them did not answer, with the reason.
        turned: old and new verdict, and how often.
        largest: the questions whose probabilities differ most, with that difference.
        margins: share of flips by the old judge's margin, `from-to`; without bins that no question is in.
    """

    share: float | None
    interval: Interval
    compared: int
    lost: dict[str, str] = field(default_factory=dict)
    turned: dict[str, int] = field(default_factory=dict)
    largest: list[tuple[str, float]] = field(default_factory=list)
    margins: dict[str, Part] = field(default_factory=dict)


def flips_of(pairs: Sequence[Pair], lost: Mapping[str, str] | None = None, confidence: float = 0.95) -> Flips:
    """Count the verdicts that the new judge turns.

    Args:
        pairs: what both judges answered.
        lost: name -> why one of them did not answer.
        confidence: of the intervals.
    """
    share = of_mean([float(pair.turned) for pair in pairs], [pair.group for pair in pairs])
    distance: dict[str, float] = {}
    for pair in pairs:
        apart = total_variation(pair.old.probabilities, pair.new.probabilities)
        distance[pair.name] = max(distance.get(pair.name, 0.0), apart)
    turned = Counter(f"{pair.old.verdict} -> {pair.new.verdict}" for pair in pairs if pair.turned)
    return Flips(
        share=share.value,
        interval=share.interval(confidence),
        compared=len(pairs),
        lost=dict(lost or {}),
        turned=dict(turned.most_common()),
        largest=sorted(distance.items(), key=lambda item: -item[1])[:SHOWN],
        margins=by_margin(pairs, confidence),
    )


def by_margin(pairs: Iterable[Pair], confidence: float = 0.95) -> dict[str, Part]:
    """The share of flips in each bin of `MARGINS`."""
    bins: dict[str, list[Pair]] = {name: [] for name in _names()}
    for pair in pairs:
        if (margin := pair.old.margin) is not None:
            place = sum(margin >= low for low in MARGINS) - 1
            bins[_names()[place]].append(pair)
    found: dict[str, Part] = {}
    for name, inside in bins.items():
        if inside:
            share = of_mean([float(pair.turned) for pair in inside], [pair.group for pair in inside])
            low, high = share.interval(confidence)
            found[name] = Part(n=len(inside), value=share.value, ci_low=low, ci_high=high)
    return found


def _names() -> list[str]:
    ends = [*MARGINS[1:], 1.0]
    return [f"{low:g}-{high:g}" for low, high in zip(MARGINS, ends, strict=True)]


def total_variation(one: Mapping[str, float], two: Mapping[str, float]) -> float:
    """Half the sum of |Δp| over all labels: the largest difference that any set of verdicts has."""
    return math.fsum(abs(one.get(label, 0.0) - two.get(label, 0.0)) for label in one.keys() | two.keys()) / 2


def largest_gap(one: Mapping[str, float], two: Mapping[str, float]) -> float:
    """The largest |Δp| of a label; 0 without labels."""
    return max((abs(one.get(label, 0.0) - two.get(label, 0.0)) for label in one.keys() | two.keys()), default=0.0)


def divergence(old: Mapping[str, float], new: Mapping[str, float]) -> float:
    """KL(old ‖ new) in nats (Kullback and Leibler 1951); a probability of 0 counts as `LEAST`."""
    return math.fsum(p * math.log(p / max(new.get(label, 0.0), LEAST)) for label, p in old.items() if p > 0)
