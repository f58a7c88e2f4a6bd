"""What the verdict's probabilities are worth: calibration, and scores as expectations.

The probabilities are those of the closed set at the verdict token (`verdict_probs` of a judgment). Judgments without
them, as of verdicts of several tokens or of endpoints that give none, are left out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipelines.evaluation.scoring.figures import Figures

BINS = 10  # of equal width, as usual for ECE (arXiv 1706.04599)


class Bin(Figures):
    """One bin of a reliability diagram."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


class Calibration(Figures):
    """How sure a judge is of its verdicts against how often it is right; see `calibration.py`."""

    ece: float | None
    brier: float | None
    confidence: float | None
    n: int
    bins: list[Bin]


def calibration(judgments: pd.DataFrame) -> Calibration:
    """Expected calibration error and Brier score of closed verdicts.

    Args:
        judgments: with gold, predicted, outcome, allowed and verdict_probs (pairs of verdict and probability).

    Returns:
        `ece`: mean distance between how sure the judge is of its verdict and how often it is right, over bins of
        confidence weighted by their judgments (arXiv 1706.04599, eq. 3); `brier`: mean squared distance between the
        probabilities and the truth, summed over the verdicts (0 to 2; Brier 1950); `confidence`: mean probability of
        the verdict; `n`: judgments that have probabilities; `bins`: of those bins that are not empty, from the lowest,
        `low` and `high` (bounds), `n`, mean `confidence` and `accuracy`: a reliability diagram.
    """
    lines = _with_probabilities(judgments)
    if lines.empty:
        return Calibration(ece=None, brier=None, confidence=None, n=0, bins=[])
    confidence = np.array([probs[said] for probs, said in zip(lines["probs"], lines["predicted"], strict=True)])
    right = (lines["predicted"] == lines["gold"]).to_numpy(dtype=float)
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins = [
        Bin(
            low=int(b) / BINS,
            high=(int(b) + 1) / BINS,
            n=int((place == b).sum()),
            confidence=float(confidence[place == b].mean()),
            accuracy=float(right[place == b].mean()),
        )
        for b in np.unique(place)
    ]
    classes = sorted({verdict for allowed in lines["allowed"] for verdict in allowed} | set(lines["gold"]))
    matrix = np.array([[probs.get(verdict, 0.0) for verdict in classes] for probs in lines["probs"]])
    truth = np.array([[float(verdict == gold) for verdict in classes] for gold in lines["gold"]])
    return Calibration(
        ece=sum(abs(one.confidence - one.accuracy) * one.n for one in bins) / len(lines),
        brier=float(((matrix - truth) ** 2).sum(axis=1).mean()),
        confidence=float(confidence.mean()),
        n=len(lines),
        bins=bins,
    )


def expected_scores(judgments: pd.DataFrame, table: pd.DataFrame) -> pd.Series:
    """The mean of the scale under the verdict's probabilities, in the order of `table`; its plain score without them.

    Args:
        judgments: of an absolute benchmark.
        table: its `verdict_tables.scores`.
    """
    lines = _with_probabilities(judgments).set_index("row_id")
    means = lines["probs"].map(lambda probs: sum(float(verdict) * share for verdict, share in probs.items()))
    return means.reindex(table.index).fillna(table["score"]).astype(float)


def _with_probabilities(judgments: pd.DataFrame) -> pd.DataFrame:
    """The judgments whose verdict was read and has a probability, with `probs` as a dict."""
    found = judgments["verdict_probs"].map(lambda pairs: {} if pairs is None else dict(pairs))
    lines = judgments.assign(probs=found)
    has = [
        outcome == "ok" and said in probs
        for outcome, said, probs in zip(lines["outcome"], lines["predicted"], lines["probs"], strict=True)
    ]
    return lines[np.array(has, dtype=bool)]
