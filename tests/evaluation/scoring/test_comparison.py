"""Means that are of everything or of nothing, and sentences word for word."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.evaluation.scoring.comparison import mean, mean_draws, sentence


def test_a_mean_is_of_all_values_or_of_none() -> None:
    assert mean([0.25, 0.75]) == 0.5
    assert mean([0.0, 0.5]) == 0.25  # zero is a value
    assert mean([0.25, None]) is None
    assert mean([]) is None


def test_a_mean_of_draws_is_of_all_or_of_none() -> None:
    one, two = np.array([0.0, 1.0]), np.array([1.0, 1.0])
    assert mean_draws([one, two]) == pytest.approx([0.5, 1.0])
    assert mean_draws([one, None]) is None
    assert mean_draws([]) is None


@pytest.mark.parametrize(
    ("difference", "low", "high", "words"),
    [
        (0.1, 0.01, 0.3, "x: two is better than one (+0.100 accuracy, 95% interval +0.010 to +0.300, n = 30)."),
        (-0.1, -0.3, -0.01, "x: two is worse than one (-0.100 accuracy, 95% interval -0.300 to -0.010, n = 30)."),
        (
            -0.1,
            -0.3,
            0.0,
            "x: no difference between two and one is shown (-0.100 accuracy, 95% interval -0.300 to +0.000, n = 30, "
            "which includes 0).",
        ),
        (0.1, None, None, "x: two − one is +0.100 accuracy, without an interval (n = 30)."),
        (None, None, None, "x: two and one cannot be compared, accuracy is not defined (n = 30)."),
    ],
)
def test_sentences(difference: float | None, low: float | None, high: float | None, words: str) -> None:
    assert sentence(("two", "one"), "x", "accuracy", difference, low, high, 30, 0.95) == words


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.01, 0.3, "two is better than one"),
        (-0.3, -0.01, "two is worse than one"),
        (-0.1, 0.3, "no difference between two and one is shown"),
        (0.0, 0.3, "no difference between two and one is shown"),
        (None, None, "without an interval"),
    ],
)
def test_the_sentence_says_what_the_interval_allows(low: float | None, high: float | None, words: str) -> None:
    assert words in sentence(("two", "one"), "x", "accuracy", 0.1, low, high, 30, 0.95)
