"""Calibration and expected scores by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from pipelines.evaluation.scoring.calibration import calibration, expected_scores
from pipelines.evaluation.scoring.correlations import kendall, quadratic_kappa
from pipelines.evaluation.scoring.verdict_tables import scores


def line(gold: str, said: str | None, probs: dict[str, float] | None, row_id: str = "x") -> dict[str, Any]:
    return {
        "row_id": row_id,
        "group_id": row_id,
        "subset": None,
        "order": "given",
        "gold": gold,
        "allowed": ["A", "B"] if gold in "AB" else ["1", "2", "3", "4", "5"],
        "predicted": said,
        "outcome": "ok" if said else "no_verdict",
        "verdict_probs": list(probs.items()) if probs is not None else None,
    }


def test_ece_and_brier_of_four_judgments() -> None:
    frame = pd.DataFrame(
        [
            line("A", "A", {"A": 0.95, "B": 0.05}),
            line("B", "A", {"A": 0.91, "B": 0.09}),
            line("B", "B", {"A": 0.45, "B": 0.55}),
            line("A", "A", {"A": 1.0, "B": 0.0}),  # in the last bin, not beyond it
            line("A", None, None),
            line("A", "A", {}),
        ]
    )
    found = calibration(frame).model_dump()
    last = abs((0.95 + 0.91 + 1.0) / 3 - 2 / 3) * 3 / 4
    assert found["ece"] == pytest.approx(last + abs(0.55 - 1) / 4)
    squares = 2 * (0.05**2 + 0.91**2 + 0.45**2 + 0)  # both verdicts of a pair are off by the same
    assert found["brier"] == pytest.approx(squares / 4)
    assert (found["n"], found["confidence"]) == (4, pytest.approx((0.95 + 0.91 + 0.55 + 1) / 4))
    assert found["bins"] == [
        {"low": 0.5, "high": 0.6, "n": 1, "confidence": 0.55, "accuracy": 1.0},
        {
            "low": 0.9,
            "high": 1.0,
            "n": 3,
            "confidence": pytest.approx((0.95 + 0.91 + 1.0) / 3),
            "accuracy": pytest.approx(2 / 3),
        },
    ]


def test_without_probabilities_there_is_no_figure() -> None:
    frame = pd.DataFrame([line("A", "A", None), line("B", None, {})])
    assert calibration(frame).model_dump() == {"ece": None, "brier": None, "confidence": None, "n": 0, "bins": []}


def test_three_verdicts_with_a_tie() -> None:
    frame = pd.DataFrame([{**line("A", "A", {"A": 0.5, "B": 0.2, "Tie": 0.3}), "allowed": ["A", "B", "Tie"]}])
    assert calibration(frame).brier == pytest.approx(0.5**2 + 0.2**2 + 0.3**2)


def test_an_expected_score_lies_between_the_verdicts() -> None:
    frame = pd.DataFrame(
        [
            line("4", "4", {"3": 0.25, "4": 0.5, "5": 0.25}, "a"),
            line("2", "1", {"1": 0.5, "3": 0.5}, "b"),
            line("5", "5", None, "c"),
            line("1", None, None, "d"),
        ]
    )
    table = scores(frame)
    assert expected_scores(frame, table).tolist() == pytest.approx([4.0, 2.0, 5.0, 10 / 3])  # d: the mean of those read


def test_kendall_and_quadratic_kappa_by_hand() -> None:
    assert kendall([1, 2, 3, 3], [1, 2, 3, 4]) == pytest.approx(5 / (5 * 6) ** 0.5)  # 5 pairs agree, one is tied
    assert kendall([2, 2], [1, 2]) == 0.0
    frame = pd.DataFrame([line(g, s, None, str(i)) for i, (g, s) in enumerate([("1", "1"), ("5", "3"), ("3", None)])])
    # Weights are squared distances: observed (5 − 3)² of two rows; expected 0 + 4 + 16 + 4 over four combinations.
    assert quadratic_kappa(scores(frame)) == pytest.approx(1 - (4 / 2) / (24 / 4))
    assert quadratic_kappa(scores(frame[:1])) is None
