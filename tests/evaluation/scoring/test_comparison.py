"""Sentences word for word: `better` only of a judge that was read, beats one verdict for all rows, and keeps to it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pipelines.evaluation.scoring.comparison import more_than_chance
from pipelines.evaluation.scoring.intervals import difference, of_mean
from pipelines.evaluation.scoring.results import summarise
from pipelines.evaluation.scoring.sentences import Said, percent, sentence
from pipelines.evaluation.scoring.task_means import mean

FACTS = (
    "Read: two 100%, one 98%; one verdict everywhere: 0.500; guessing: 0.450; same response in both orders: two 80% of "
    "30, one 60% of 29."
)


def side(**changes: Any) -> Any:
    given = {"ci_low": 0.55, "parse_rate": 1.0, "baseline": 0.5, "chance": 0.45, "consistency": (0.8, 30)}
    return SimpleNamespace(**given | changes)


ONE = side(ci_low=0.51, parse_rate=0.98, consistency=(0.6, 29))


def said(value: float | None, low: float | None, high: float | None, sign: str, why: str = "") -> Said:
    return Said("x", "accuracy", value, (low, high), why, 30, sign, 0.95)


def test_a_mean_is_of_all_values_or_of_none() -> None:
    assert mean([0.25, 0.75]) == 0.5
    assert mean([0.0, 0.5]) == 0.25  # zero is a value
    assert mean([0.25, None]) is None
    assert mean([]) is None


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (
            said(0.1, 0.01, 0.3, "higher"),
            "two is better than one (+0.100 accuracy, 95% interval +0.010 to +0.300, n = 30).",
        ),
        (
            said(-0.1, -0.3, -0.01, "lower"),
            "two is worse than one (-0.100 accuracy, 95% interval -0.300 to -0.010, n = 30).",
        ),
        (
            said(-0.1, -0.3, 0.0, ""),
            "no difference between two and one is shown (-0.100 accuracy, 95% interval -0.300 to +0.000, n = 30, which "
            "includes 0).",
        ),
        (
            said(0.1, 0.01, 0.3, ""),
            "no difference between two and one is shown (+0.100 accuracy, 95% interval +0.010 to +0.300, n = 30, "
            "chance among several comparisons).",
        ),
        (said(0.1, None, None, "", "no spread"), "two − one is +0.100 accuracy (no interval: no spread, n = 30)."),
        (said(None, None, None, ""), "two and one cannot be compared, accuracy is not defined (n = 30)."),
    ],
)
def test_a_sentence_says_what_the_figures_allow_and_what_must_stand_beside_them(difference: Said, words: str) -> None:
    assert sentence(difference, ("two", "one"), (side(), ONE)) == f"x: {words} {FACTS}"


@pytest.mark.parametrize(
    ("ours", "theirs", "doubt"),
    [
        ({}, {"parse_rate": 0.0}, "0% of one's verdicts could be read"),
        ({"parse_rate": 0.949}, {}, "95% of two's verdicts could be read"),
        ({"ci_low": 0.5}, {}, "two is not shown to be above giving one verdict everywhere (0.500)"),
        ({"ci_low": None}, {}, "two is not shown to be above giving one verdict everywhere (0.500)"),
        ({"ci_low": 0.55, "chance": 0.56}, {}, "two is not shown to be above guessing (0.560)"),
        ({"consistency": (0.0, 28)}, {}, "two names the same response in both orders in 0% of 28 pairs"),
    ],
)
def test_a_higher_figure_is_not_called_better_of(ours: dict[str, Any], theirs: dict[str, Any], doubt: str) -> None:
    written = sentence(said(0.467, 0.3, 0.6, "higher"), ("two", "one"), (side(**ours), side(**theirs)))
    assert "better" not in written
    assert written.startswith(
        "x: two scores higher than one (+0.467 accuracy, 95% interval +0.300 to +0.600, n = 30), but "
    )
    assert doubt in written


def test_the_doubts_are_about_the_one_that_scores_higher() -> None:
    low = side(ci_low=0.1, consistency=(0.1, 20))
    assert "two is worse than one (" in sentence(said(-0.4, -0.6, -0.2, "lower"), ("two", "one"), (low, ONE))
    assert "scores lower" in sentence(said(-0.4, -0.6, -0.2, "lower"), ("two", "one"), (ONE, low))


def test_of_many_comparisons_the_least_surprising_are_left_to_chance() -> None:
    rows = np.arange(60)
    gaps = {
        str(more): difference(of_mean(rows < 30 + more, rows), of_mean(rows < 30, rows)) for more in (0, 0, 5, 7, 20)
    } | {f"none {number}": difference(of_mean(rows < 30, rows), of_mean(rows < 30, rows)) for number in range(30)}
    alone = {name: gap.p_value() < 0.05 for name, gap in gaps.items()}
    assert (alone["5"], alone["7"], alone["20"]) == (True, True, True)
    together = more_than_chance(gaps, 0.05)
    assert (together["5"], together["20"], together["none 3"]) == (False, True, False)
    assert more_than_chance({}, 0.05) == {}


def test_a_share_never_rounds_to_all_or_to_none() -> None:
    assert [percent(share) for share in (None, 0.0, 0.004, 0.5, 0.996, 1.0)] == [
        "none",
        "0%",
        "<1%",
        "50%",
        ">99%",
        "100%",
    ]


def test_a_judge_that_always_says_a_is_never_called_better(make_run: Callable) -> None:
    """The demo of one release: 'better', with 0 of 28 pairs consistent and accuracy below the commonest verdict's."""
    run = make_run({"base": lambda row: "I cannot say.", "trained": lambda row: "Result: A"}, ["heldout_pairwise"])
    found = summarise(run.judgments, run.examples, run.config, 0).comparison["trained"].tasks["pairwise"]
    assert found.difference == 0.5 and found.shown == "higher"
    for words in (
        "trained scores higher than base",
        "0% of base's verdicts could be read",
        "not shown to be above giving one verdict everywhere (0.500)",
        "the same response in both orders in 0% of 60 pairs",
    ):
        assert words in found.sentence
    assert "better" not in found.sentence
