"""A stand-in for a judge: a linear model on a few features of the texts, fitted in milliseconds.

It is there to try the rules of experiments on hundreds of trials. It learns from pairs what DPO teaches a model, to
prefer the chosen verdict over the rejected one (Bradley–Terry, by logistic regression on the difference of their
features), and so shows what labels do to a judge. Its figures say nothing of any language model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.core.records import Row

Vector = NDArray[np.float64]
WORD = re.compile(r"\w+")
REFUSAL = re.compile(r"\b(sorry|cannot|can't|unable|as an ai|not appropriate)\b", re.I)
STRENGTH = 1.0  # of the penalty on weights (scikit-learn's C)


class StandIn:
    """The linear judge.

    Args:
        pairs: the pool.
        asked: the held-out rows.
    """

    def __init__(self, pairs: Sequence[Row], asked: Sequence[Row]) -> None:
        parts = [responses(row) for row in [*pairs, *asked]]
        flat = np.array([one for part in parts for one in part])
        self.centre, self.scale = flat.mean(0), flat.std(0) + 1e-9
        self.pairs, self.asked = list(pairs), list(asked)
        self.tasks = sorted({row["task"] for row in [*pairs, *asked]})
        self.training = np.array(
            [self.of(row, row["verdict"]) - self.of(row, row["rejected_verdict"]) for row in self.pairs]
        )
        self.questions = [np.array([self.of(row, verdict) for verdict in row["allowed"]]) for row in self.asked]

    def trial(self, rows: Sequence[int], signs: Sequence[int] | None = None) -> list[list[float]]:
        """Fit on some pairs of the pool and score the verdicts of all held-out rows; without pairs all are alike.

        Args:
            rows: numbers of the pairs.
            signs: -1 where chosen and rejected change places.
        """
        if not rows:
            return [[0.0] * len(one) for one in self.questions]
        from sklearn.linear_model import LogisticRegression

        x = self.training[list(rows)] * (1.0 if signs is None else np.array(signs)[:, None])
        both = np.concatenate([x, -x])
        side = np.repeat([1, 0], len(x))
        weights = LogisticRegression(C=STRENGTH, fit_intercept=False).fit(both, side).coef_[0]
        return [(one @ weights).tolist() for one in self.questions]

    def of(self, row: Row, verdict: str) -> Vector:
        """Features of a row under a verdict: those of its task alone are not 0."""
        found = [(one - self.centre) / self.scale for one in responses(row)]
        allowed = list(row["allowed"])
        if row["task"] == "pairwise":
            own = (found[0] - found[1]) * {"A": 1.0, "B": -1.0}.get(verdict, 0.0)
        elif row["task"] == "absolute":
            scale = [float(one) for one in allowed]
            middle, reach = (max(scale) + min(scale)) / 2, (max(scale) - min(scale)) / 2
            place = (float(verdict) - middle) / reach
            own = np.concatenate([found[0] * place, [place]])
        else:
            place = 1 - 2 * allowed.index(verdict) / max(1, len(allowed) - 1)
            own = np.concatenate([found[0] * place, [place]])
        whole = np.zeros((len(self.tasks), len(self.centre) + 1))
        whole[self.tasks.index(row["task"]), : len(own)] = own
        return whole.ravel()


def responses(row: Row) -> list[Vector]:
    """Features of each response."""
    asked = set(WORD.findall(f"{row['instruction'] or ''} {row['context'] or ''}".lower()))
    return [one_response(text or "", asked) for text in row["responses"]]


def one_response(text: str, asked: set[str]) -> Vector:
    """Length, shape, overlap with what was asked, and signs of a refusal."""
    words = [word.lower() for word in WORD.findall(text)]
    count = max(1, len(words))
    features: list[Any] = [
        math.log1p(len(words)),
        math.log1p(text.count("\n")),
        len(set(words)) / count,
        len(asked & set(words)) / max(1, len(set(words))),
        len(asked & set(words)) / max(1, len(asked)),
        sum(map(len, words)) / count,
        sum(word.isdigit() for word in words) / count,
        float(bool(REFUSAL.search(text))),
        float(text.rstrip()[-1:] in '.!?")`'),
        text.count(",") / count,
    ]
    return np.array(features, dtype=np.float64)
