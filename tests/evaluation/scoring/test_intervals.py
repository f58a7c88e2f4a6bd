"""Intervals by hand, against theory, and by how often they hold."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t
from statsmodels.stats.proportion import proportion_confint

from perf.coverage import coverage, of_accuracy, of_balanced, of_difference, of_own_scores, of_pairs, of_pearson
from pipelines.evaluation.scoring import intervals
from pipelines.evaluation.scoring.intervals import Measured, difference, mean_of, of_mean
from pipelines.evaluation.scoring.jackknife import (
    NO_SPREAD,
    OUTSIDE,
    UNDEFINED,
    jackknife,
    of_bounded,
    of_jackknife,
)
from pipelines.evaluation.scoring.metrics import pearson

RNG = np.random.default_rng(0)
ROWS = np.arange(30)


def test_wilson_by_hand() -> None:
    # Wilson (1927): centre (p + z²/2n) / (1 + z²/n), half width z·sqrt(p(1-p)/n + z²/4n²) / (1 + z²/n).
    p, n, z = 8 / 10, 10, NormalDist().inv_cdf(0.975)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert intervals.wilson(8 / 10, 10, 0.95) == pytest.approx((centre - half, centre + half))


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(30, 30, 0.886, 1.0), (0, 30, 0.0, 0.114), (3, 3, 0.439, 1.0), (27, 30, 0.744, 0.965)],
)
def test_independent_rows_have_wilson_s_interval_also_at_its_ends(right: int, n: int, low: float, high: float) -> None:
    found = of_mean([1.0] * right + [0.0] * (n - right), np.arange(n))
    assert found.interval(0.95) == pytest.approx((low, high), abs=6e-4)
    assert found.interval(0.95) == pytest.approx(proportion_confint(right, n, method="wilson"))


def test_rows_that_hang_together_count_as_one() -> None:
    points, groups = np.repeat([1.0] * 6 + [0.0] * 4, 3), np.repeat(np.arange(10), 3)
    assert of_mean(points, groups).interval(0.95) == pytest.approx(proportion_confint(6, 10, method="wilson"))
    assert of_mean(np.ones(30), groups).interval(0.95) == pytest.approx(proportion_confint(10, 10, method="wilson"))


def test_a_judge_that_is_right_in_one_order_of_every_pair_has_an_interval_too() -> None:
    low, high = of_mean(np.full(40, 0.5), np.arange(40)).interval(0.95)
    assert low is not None and high is not None
    assert (low, high) == pytest.approx((0.456, 0.544), abs=1e-3)  # up to z²/(n + z²) of the pairs may be otherwise


def test_rows_of_no_weight_are_not_there() -> None:
    points, groups = RNG.random(30).round(), np.arange(30) // 2
    part = ROWS < 20
    found, alone = of_mean(points, groups, part), of_mean(points[part], groups[part])
    assert (found.value, found.interval(0.9)) == (pytest.approx(alone.value), pytest.approx(alone.interval(0.9)))
    assert of_mean(points, groups, np.zeros(30)).value is None


def test_one_group_has_no_interval_and_says_so() -> None:
    for found in (of_mean([1.0, 0.0], ["a", "a"]), of_jackknife(0.5, [0.5])):
        assert (found.interval(0.95), found.why) == ((None, None), intervals.ONE_GROUP)


def table(score: object, gold: object, groups: object = None) -> pd.DataFrame:
    return pd.DataFrame({"score": score, "gold": gold, "group_id": ROWS if groups is None else groups}, dtype=float)


def test_pearson_without_each_group_is_that_of_the_other_rows() -> None:
    rows = table(RNG.integers(1, 6, 30), RNG.integers(1, 6, 30), ROWS // 3)
    slow = [pearson.pearson(rows[rows["group_id"] != name]) for name in range(10)]
    assert pearson.without_groups(rows) == pytest.approx(slow)
    found = pearson.measure(rows)
    assert found.interval(0.95) == pytest.approx(of_jackknife(found.value, slow, correlation=True).interval(0.95))


def test_pearson_s_interval_by_hand() -> None:
    rows = table(RNG.random(30), RNG.random(30))
    z = np.arctanh(pearson.without_groups(rows))
    error = np.sqrt(29 / 30 * ((z - z.mean()) ** 2).sum())
    centre = np.arctanh(pearson.pearson(rows))
    ends = np.tanh([centre - t.ppf(0.975, 29) * error, centre + t.ppf(0.975, 29) * error])
    assert pearson.measure(rows).interval(0.95) == pytest.approx(tuple(ends))


@pytest.mark.parametrize(
    ("score", "gold", "why"),
    [
        (np.full(30, 3.0), RNG.random(30), NO_SPREAD),
        (ROWS, ROWS, UNDEFINED),  # r = 1 in every row seen
        (np.where(ROWS == 0, 9, ROWS), ROWS, UNDEFINED),  # and but for one row
        (ROWS, np.full(30, 2.0), "undefined"),
    ],
)
def test_pearson_without_spread_has_no_interval_and_says_why(score: object, gold: object, why: str) -> None:
    found = pearson.measure(table(score, gold))
    assert (found.interval(0.95), found.why) == ((None, None), why)


def test_any_figure_has_the_jackknife_which_for_a_mean_is_student_s() -> None:
    values = RNG.random(30)
    frame = pd.DataFrame({"value": values, "group_id": ROWS})
    low, high = jackknife(lambda rows: float(rows["value"].mean()), frame).interval(0.95)
    reach = t.ppf(0.975, 29) * values.std(ddof=1) / np.sqrt(30)
    assert (low, high) == pytest.approx((values.mean() - reach, values.mean() + reach))
    assert jackknife(lambda rows: None if len(rows) < 30 else 0.5, frame).why == UNDEFINED


def test_a_figure_between_two_ends_has_wilson_s_interval_as_a_share_that_varies_as_much() -> None:
    right = ROWS < 24
    frame = pd.DataFrame({"right": right, "group_id": ROWS})
    found = jackknife(lambda rows: float(rows["right"].mean()), frame, ends=(0.0, 1.0))
    n = 29 * (NormalDist().inv_cdf(0.975) / t.ppf(0.975, 29)) ** 2  # the jackknife's variance is p (1 - p) / 29
    assert found.interval(0.95) == pytest.approx(intervals.wilson(0.8, n, 0.95))
    twice = jackknife(lambda rows: 2 * float(rows["right"].mean()) - 1, frame, ends=(-1.0, 1.0))
    assert twice.interval(0.95) == pytest.approx(tuple(2 * end - 1 for end in intervals.wilson(0.8, n, 0.95)))


def test_a_figure_between_two_ends_always_has_a_width() -> None:
    for value in (0.0, 0.5, 1.0):
        assert of_bounded(value, np.full(10, value), (0.0, 1.0), 40).interval(0.95) == pytest.approx(
            intervals.wilson(value, 10, 0.95)
        )
    # Nearly constant: no narrower than a share of as many independent rows.
    left = 0.9 + np.linspace(-1, 1, 10) / 1e4
    assert of_bounded(0.9, left, (0.0, 1.0), 40).interval(0.95) == pytest.approx(intervals.wilson(0.9, 40, 0.95))
    assert of_bounded(1.5, left, (0.0, 1.0), 40).why == OUTSIDE


def test_rows_of_a_group_that_are_not_alike_count_each() -> None:
    points, groups = np.tile([1.0, 1.0, 1.0, 0.0], 10), np.repeat(np.arange(10), 4)
    assert of_mean(points, groups).interval(0.95) == pytest.approx(proportion_confint(30, 40, method="wilson"))


def test_the_difference_of_two_judges_that_always_agree_has_an_interval() -> None:
    one = of_mean(ROWS < 20, ROWS)
    found = difference(one, one)
    low, high = found.interval(0.95)
    assert found.value == 0 and low is not None and high is not None
    assert low == pytest.approx(-high) and 0.03 < high < 0.15
    assert found.p_value() == pytest.approx(1.0, abs=1e-9)


def test_a_few_groups_show_no_difference_however_large_it_is() -> None:
    right, wrong = np.ones(40), np.zeros(40)
    few, enough = np.arange(40) % 5, np.arange(40) % 6
    found = difference(of_mean(right, few), of_mean(wrong, few))
    assert (found.value, found.bounds, found.why) == (1.0, None, "fewer than 6 groups of rows")
    assert found.p_value() == 1.0
    assert difference(of_mean(right, enough), of_mean(wrong, enough)).p_value() < 0.05


def test_a_difference_is_narrower_the_more_two_judges_agree() -> None:
    one, same, other = (of_mean(rows, ROWS) for rows in (ROWS < 20, ROWS < 18, ROWS >= 12))
    widths = [high - low for low, high in (difference(one, two).interval(0.95) for two in (same, other))]
    assert widths[0] < 0.6 * widths[1]


def test_the_p_value_belongs_to_the_interval() -> None:
    found = difference(of_mean(ROWS < 25, ROWS), of_mean(ROWS < 18, ROWS))
    error = found.p_value()
    low, _ = found.interval(1 - error)
    assert 0 < error < 0.05 and low == pytest.approx(0, abs=1e-6)


def test_the_mean_of_two_figures_adds_their_reaches_as_if_independent() -> None:
    one, two = of_mean(ROWS < 20, ROWS), of_mean(ROWS < 5, ROWS)
    low, high = mean_of([one, two]).interval(0.95)
    (a, b), (c, d) = one.interval(0.95), two.interval(0.95)
    assert low == pytest.approx(25 / 60 - np.hypot(20 / 30 - a, 5 / 30 - c) / 2)
    assert high == pytest.approx(25 / 60 + np.hypot(b - 20 / 30, d - 5 / 30) / 2)
    assert mean_of([one, Measured(None, None)]).value is None
    assert mean_of([]).value is None
    assert mean_of([one, Measured(0.5, None, "why")]).why == "why"


@pytest.mark.parametrize(
    ("case", "n", "size", "icc"),
    [
        (of_accuracy(0.95), 30, 1, 0.0),  # a percentile bootstrap holds in 76%
        (of_accuracy(0.8), 80, 4, 0.5),
        (of_pairs(0.25, 0.5), 30, 1, 0.0),
        (of_difference(0.8, 0.5, 0.6), 80, 1, 0.0),
        (of_pearson(0.8), 30, 1, 0.0),
        (of_balanced(0.8, 0.4), 30, 1, 0.0),  # the jackknife with Student's t holds in 92%, at p = 0.95 in 78%
        (of_own_scores(0.5), 30, 1, 0.0),
    ],
)
def test_a_nominal_95_percent_holds_in_93_to_97(case: object, n: int, size: int, icc: float) -> None:
    held, given = coverage(case, n, size, icc, trials=300)  # type: ignore[arg-type]
    assert given == 1
    assert 0.91 < held < 0.99  # within 1.6 standard errors of 300 trials of the range
