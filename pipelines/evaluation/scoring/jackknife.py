"""Intervals of figures that are no mean of points, by their values without each group of rows in turn (Tukey 1958).

- A figure between two ends, as balanced accuracy: Wilson's interval, as if it were a share that varies as much.
- A correlation: Student's t on Fisher's z scale. Any other figure: Student's t.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pipelines.evaluation.scoring.intervals import EXACT, ONE_GROUP, Floats, Measured, normal, student, wilson

Ends = tuple[float, float]
NO_SPREAD = "no spread"
UNDEFINED = "without one group of rows it is undefined, or 1"
OUTSIDE = "it lies outside the ends that its metric names"


def jackknife(
    value: Callable[[pd.DataFrame], float | None],
    table: pd.DataFrame,
    ends: Ends | None = None,
    correlation: bool = False,
) -> Measured:
    """Any figure of a table with a line per row and group_id; the figure is computed once for each group."""
    names = np.unique(table["group_id"])
    whole = value(table)
    left = [_number(value(table[table["group_id"] != name])) for name in names] if len(names) > 1 else [math.nan]
    if correlation or ends is None:
        return of_jackknife(whole, left, correlation)
    return of_bounded(whole, left, ends, len(table))


def of_bounded(value: float | None, without: ArrayLike, ends: Ends, rows: int) -> Measured:
    """A figure that lies between two ends.

    Args:
        value: of all rows.
        without: shape (G,), by the group's name.
        ends: the lowest and the highest possible value.
        rows: how many there are. It is taken to vary at least as much as a share of so many independent rows: where
            rows of one label are all right, their part in the variance is unseen.
    """
    left = np.asarray(without, dtype=np.float64)  # None becomes NaN
    if value is None or (why := _why(left)):
        return Measured(value, None, "undefined" if value is None else why, np.zeros_like(left))
    low, high = ends
    if not low <= value <= high:
        return Measured(value, None, OUTSIDE, np.zeros_like(left))
    shifts = left.mean() - left
    share, variance = (value - low) / (high - low), _variance(shifts) / (high - low) ** 2

    def bounds(confidence: float) -> tuple[float, float]:
        wanted = float(len(left))  # all right, or always the same verdict: as many as there are groups
        if variance > EXACT**2:
            ratio = normal(confidence) / student(confidence, len(left) - 1)
            wanted = min(share * (1 - share) / variance * ratio**2, rows)
        least, most = wilson(share, max(wanted, 1.0), confidence)
        return low + (high - low) * least, low + (high - low) * most

    return Measured(value, bounds, shifts=shifts)


def of_jackknife(value: float | None, without: ArrayLike, correlation: bool = False) -> Measured:
    """A figure without ends, or a correlation.

    Args:
        value: of all rows.
        without: shape (G,), by the group's name.
        correlation: whether it lies between -1 and 1, so that Fisher's z makes it more normal.
    """
    left = np.asarray(without, dtype=np.float64)
    if value is None or (why := _why(left)):
        return Measured(value, None, "undefined" if value is None else why, np.zeros_like(left))
    if correlation and max(abs(value), *np.abs(left)) > 1 - EXACT:
        return Measured(value, None, UNDEFINED, np.zeros_like(left))
    scaled = np.arctanh(left) if correlation else left
    shifts: Floats = scaled.mean() - scaled
    error = math.sqrt(_variance(shifts))
    if error < EXACT:
        return Measured(value, None, NO_SPREAD, shifts)
    centre, df = (math.atanh(value) if correlation else value), len(left) - 1

    def bounds(confidence: float) -> tuple[float, float]:
        reach = student(confidence, df) * error
        ends = centre - reach, centre + reach
        return (math.tanh(ends[0]), math.tanh(ends[1])) if correlation else ends

    return Measured(value, bounds, shifts=shifts)


def _why(left: Floats) -> str:
    """Why there is no interval, if so."""
    if len(left) < 2:
        return ONE_GROUP
    return "" if np.isfinite(left).all() else UNDEFINED


def _variance(shifts: Floats) -> float:
    return (len(shifts) - 1) / len(shifts) * float(shifts @ shifts)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
