"""Figures as typed values: what all of them share. Each kind is defined by what computes it; `results.py` joins them.

In results.json a figure that is undefined is null, and one that does not apply is absent: a field with a default is
written only where it was set.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

DIGITS = 6  # decimals kept: below what a sum's order of addition can change


class Figures(BaseModel):
    """Base of all figures: an unknown key is an error, a value is never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(Figures):
    """A figure and its confidence interval."""

    value: float | None
    ci_low: float | None
    ci_high: float | None


class Part(Figures):
    """A section of a benchmark, or a kind of bias, with its confidence interval."""

    n: int
    value: float | None
    ci_low: float | None
    ci_high: float | None


def plain(value: Any) -> Any:
    """The value in JSON's own types, rounded; what is not a finite number becomes null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return round(float(value), DIGITS) + 0.0 if math.isfinite(value) else None
    return value
