"""A checker's own error rates, and the share of a set that it flags, corrected for them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWS = 20_000
CONFIDENCE = 0.95
Counts = tuple[int, int]  # checked, and of those flagged


class Checker:
    """A checker, measured by its probes.

    Two constructed sets measure it: real critiques with a verdict that they do not argue for, which it should flag (the
    share it flags is the TPR), and plain statements of a verdict with that verdict, which it should accept (the share
    it flags is the FPR). A statement is easier than a real critique, so the FPR is a lower bound; a critique may itself
    be wrong, so the TPR is one as well.

    Args:
        negatives: critiques with another verdict.
        positives: statements with their own.
        generator: of the draws from the rates' posteriors.
    """

    def __init__(self, negatives: Counts, positives: Counts, generator: np.random.Generator) -> None:
        self.generator = generator
        self.negatives, detected = _rate(*negatives, generator)
        self.positives, self._false_alarms = _rate(*positives, generator)
        self._gap = detected - self._false_alarms
        enough = self.negatives["n"] and self.positives["n"]
        # Whether TPR − FPR may be 0: then the checker tells nothing.
        self.tells_apart = bool(enough and np.quantile(self._gap, (1 - CONFIDENCE) / 2) > 0)

    def describe(self) -> dict[str, Any]:
        """`negatives` and `positives` (n, flagged, rate, interval) and `tells_apart`."""
        return {"negatives": self.negatives, "positives": self.positives, "tells_apart": self.tells_apart}

    def corrected(self, n: int, flagged: int) -> dict[str, Any]:
        """The share of a set that the checker flags, raw and corrected.

        The corrected share is Rogan and Gladen's (r − FPR) / (TPR − FPR), Am. J. Epidemiol. 107 (1978), kept within 0
        and 1; its interval comes from draws of the three rates' posteriors under Jeffreys' prior. Both are None where
        the checker does not tell the two constructed sets apart.
        """
        found, draws = _rate(n, flagged, self.generator)
        found |= {"corrected": None, "corrected_interval": None}
        if self.tells_apart and n:
            false_alarms = self.positives["rate"]
            estimate = (found["rate"] - false_alarms) / (self.negatives["rate"] - false_alarms)
            gap = np.where(self._gap == 0, np.nan, self._gap)
            found["corrected"] = float(np.clip(estimate, 0, 1))
            found["corrected_interval"] = _interval(np.clip((draws - self._false_alarms) / gap, 0, 1))
        return found


def _rate(n: int, flagged: int, generator: np.random.Generator) -> tuple[dict[str, Any], NDArray[np.float64]]:
    draws = generator.beta(flagged + 0.5, n - flagged + 0.5, DRAWS)
    rate = flagged / n if n else None
    return {"n": n, "flagged": flagged, "rate": rate, "interval": _interval(draws) if n else None}, draws


def _interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.nanquantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
