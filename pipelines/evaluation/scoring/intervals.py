"""Confidence intervals that hold for few rows, related rows and figures near their ends (`perf/coverage.py`).

- A mean of points between 0 and 1: Wilson's interval with an effective number of rows, after Korn and Graubard (1998)
  and Franco et al. (2019): as many independent rows as would vary as much as the groups do.
- Any other figure: the jackknife over groups (`jackknife.py`).
- A difference on the same rows, and a mean of several figures: MOVER (Zou and Donner 2008, Zou 2007), which is made of
  the single intervals and, for a difference, of how far the two figures move together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.evaluation.scoring.figures import Estimate

Floats = NDArray[np.float64]
Interval = tuple[float | None, float | None]
Bounds = Callable[[float], tuple[float, float]]
NONE: Interval = (None, None)
FEWEST = 6  # groups: with 5, two equal judges that never agree seem to differ in 1 of 16 runs (McNemar 1947)
ONE_GROUP = "all rows are of one group"
FEW_GROUPS = f"fewer than {FEWEST} groups of rows"
EXACT = 1e-9  # what a sum's rounding may leave of nothing
DOUBT = 2  # degrees of freedom a group: of a share's variance only how alike the groups' rows are is in doubt


@dataclass(frozen=True)
class Measured:
    """A figure, and what its interval needs.

    Attributes:
        value: None where it is undefined.
        bounds: low and high end for a confidence; None where the data give no interval.
        why: the reason then.
        shifts: what each group of rows, by name, does to the figure; shape (G,).
    """

    value: float | None
    bounds: Bounds | None
    why: str = ""
    shifts: Floats = field(default_factory=lambda: np.zeros(0), repr=False)

    def interval(self, confidence: float) -> Interval:
        """The interval, or two None."""
        return NONE if self.bounds is None else self.bounds(confidence)

    def estimate(self, confidence: float) -> Estimate:
        """The figure with its interval."""
        low, high = self.interval(confidence)
        return Estimate(value=self.value, ci_low=low, ci_high=high)

    def p_value(self) -> float:
        """1 minus the largest confidence whose interval leaves out 0; 1 without an interval."""
        if self.bounds is None:
            return 1.0
        excludes, includes = 0.0, 1.0
        for _ in range(40):
            middle = (excludes + includes) / 2
            low, high = self.bounds(middle)
            excludes, includes = (excludes, middle) if low <= 0 <= high else (middle, includes)
        return 1 - excludes


def of_mean(points: ArrayLike, groups: ArrayLike, weights: ArrayLike | None = None) -> Measured:
    """A weighted mean of points between 0 and 1.

    Args:
        points: shape (N,).
        groups: shape (N,), the group of each row.
        weights: shape (N,), not negative; None for equal ones. A row of weight 0 is not there.
    """
    x = np.asarray(points, dtype=np.float64)
    weight = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)
    names, index = np.unique(np.asarray(groups), return_inverse=True)
    if not weight.any():
        return Measured(None, None, "no rows", np.zeros(len(names)))
    weight = weight / weight.sum()
    mean = float(weight @ x)
    mean = round(mean) if abs(mean - round(mean)) < EXACT else mean  # all rows or none, but for rounding
    shifts: Floats = np.bincount(index, weight * (x - mean), minlength=len(names)).astype(np.float64)
    shares = np.bincount(index, weight, minlength=len(names))
    count = int((shares > 0).sum())
    if count < 2:
        return Measured(mean, None, ONE_GROUP, shifts)
    # As if rows of a group were one row, and as if all rows were independent (Kish 1965).
    fewest, rows = 1 / float(shares @ shares), 1 / float(weight @ weight)
    variance = count / (count - 1) * float(shifts @ shifts)
    alone = rows / (rows - 1) * float((weight * (x - mean)) @ (weight * (x - mean)))
    spread = mean * (1 - mean)

    def bounds(confidence: float) -> tuple[float, float]:
        z = normal(confidence)
        # Points that are all 0.5 do not vary; yet up to about z² / n of such rows may be otherwise.
        independent, alike = ((rows + z * z) / z) ** 2 if spread else rows, rows / fewest
        if alone > EXACT**2:
            independent = min(max(spread / alone * (z / student(confidence, rows - 1)) ** 2, rows), independent)
            doubt = (student(confidence, DOUBT * count) / z) ** 2
            alike = min(max(variance / alone * doubt, 1.0), alike)
        return wilson(mean, independent / alike, confidence)

    return Measured(mean, bounds, shifts=shifts)


def wilson(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Wilson's interval (1927) of a share among n independent rows; n need not be whole."""
    more = normal(confidence) ** 2 / n
    centre = share + more / 2
    reach = math.sqrt(more * (share * (1 - share) + more / 4))
    return max((centre - reach) / (1 + more), 0.0), min((centre + reach) / (1 + more), 1.0)


def normal(confidence: float) -> float:
    """Standard errors to either side."""
    from scipy.special import ndtri  # much faster than scipy.stats, for tests ask for many confidences

    return float(ndtri((1 + confidence) / 2))


def student(confidence: float, df: float) -> float:
    """The same by Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + confidence) / 2))


def difference(one: Measured, two: Measured) -> Measured:
    """One figure minus another, measured on the same groups of rows; without interval where they are few."""
    if one.value is None or two.value is None:
        return Measured(None, None, "undefined")
    a, b, gap = one.value, two.value, one.value - two.value
    if one.bounds is None or two.bounds is None:
        return Measured(gap, None, one.why or two.why)
    if len(one.shifts) < FEWEST:
        return Measured(gap, None, FEW_GROUPS)
    first, second = one.bounds, two.bounds
    together = _together(one.shifts, two.shifts)

    def bounds(confidence: float) -> tuple[float, float]:
        (low_a, high_a), (low_b, high_b) = first(confidence), second(confidence)
        below = _reach(a - low_a, high_b - b, together)
        above = _reach(high_a - a, b - low_b, together)
        return gap - below, gap + above

    return Measured(gap, bounds)


def mean_of(parts: Sequence[Measured]) -> Measured:
    """The unweighted mean of figures of different rows; undefined where one of them is."""
    values = [part.value for part in parts if part.value is not None]
    if not parts or len(values) < len(parts):
        return Measured(None, None, "undefined")
    n, mean = len(parts), sum(values) / len(parts)
    if len(known := [part.bounds for part in parts if part.bounds is not None]) < n:
        return Measured(mean, None, next(part.why for part in parts if part.bounds is None))

    def bounds(confidence: float) -> tuple[float, float]:
        ends = [one(confidence) for one in known]
        below = math.hypot(*(value - low for value, (low, _) in zip(values, ends, strict=True))) / n
        above = math.hypot(*(high - value for value, (_, high) in zip(values, ends, strict=True))) / n
        return mean - below, mean + above

    return Measured(mean, bounds)


def _together(one: Floats, two: Floats) -> float:
    """Correlation of two figures over resamples, from what each group does to them.

    Less than seen by two groups' worth: two models that agree on all rows seen may still differ on another.
    """
    size = math.sqrt(float(one @ one) * float(two @ two))
    seen = float(one @ two) / size if size > EXACT**2 else 0.0
    return min(seen, seen * (1 - 2 / len(one)))


def _reach(one: float, two: float, together: float) -> float:
    return math.sqrt(max(one * one + two * two - 2 * together * one * two, 0.0))
