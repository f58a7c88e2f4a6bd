"""Intervals of the mean of independent values: Student's, or Wilson's where the values can only be two."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from pipelines.core.yaml_model import Strict


class Interval(Strict):
    """A figure with its interval; no figure where it is refused."""

    value: float | None
    low: float | None = None
    high: float | None = None


def mean_interval(values: Sequence[float], level: float, scale: Collection[float] = ()) -> Interval:
    """The mean with its interval; none of one value, or of equal values of which nobody knows what else they may be.

    Student's interval has no width where a rare value happens not to be drawn; Wilson's (1927), of the share of the
    higher of two values, has.

    Args:
        values: independent of each other.
        level: of the interval.
        scale: values that are known to come up elsewhere.
    """
    from scipy.stats import t
    from statsmodels.stats.proportion import proportion_confint

    if not values:
        return Interval(value=None)
    value, known = float(np.mean(values)), sorted({*values, *scale})
    if len(values) < 2 or len(known) < 2:
        return Interval(value=value)
    if len(known) == 2:
        least, most = known
        share = proportion_confint(sum(one == most for one in values), len(values), 1 - level, method="wilson")
        low, high = (least + (most - least) * float(end) for end in share)
        return Interval(value=value, low=low, high=high)
    if min(values) == max(values):
        return Interval(value=value)
    half = float(t.ppf(0.5 + level / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(value=value, low=value - half, high=value + half)
