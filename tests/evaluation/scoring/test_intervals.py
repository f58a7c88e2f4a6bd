"""Intervals against slow resampling by hand, against theory and against the libraries."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr

from pipelines.evaluation.scoring import intervals
from pipelines.evaluation.scoring.intervals import (
    bootstrap,
    bootstrap_gap,
    bootstrap_mean,
    bootstrap_pearson,
    clustered,
    fisher_z,
    percentile,
    resample,
    wilson,
)

RNG = np.random.default_rng(0)


def test_each_resample_draws_whole_groups() -> None:
    # Sums of groups a, b and c are 1, 20 and 300: every digit tells how often its group was drawn.
    values = np.array([[1.0], [5.0], [15.0], [300.0]])
    sums = resample(values, ["a", "b", "b", "c"], draws=200, seed=1)[:, 0]
    for total in sums:
        counts = [int(total // 300), int(total % 300 // 20), int(total % 20)]
        assert sum(counts) == 3


def test_the_same_seed_draws_the_same_groups_whatever_the_values() -> None:
    groups = list("aabbccdd")
    one = bootstrap_mean(np.arange(8), groups, 100, seed=5)
    assert (one == bootstrap_mean(np.arange(8), groups, 100, seed=5)).all()
    assert (one == bootstrap_mean(np.arange(8) + 1.0, groups, 100, seed=5) - 1).all()
    assert (one != bootstrap_mean(np.arange(8), groups, 100, seed=6)).any()


def test_the_order_of_the_rows_does_not_matter() -> None:
    values, groups = RNG.random(30), RNG.integers(0, 9, 30)
    shuffled = RNG.permutation(30)
    one = bootstrap_mean(values, groups, 200, seed=1)
    assert one == pytest.approx(bootstrap_mean(values[shuffled], groups[shuffled], 200, seed=1))


def test_the_mean_of_independent_rows_has_the_spread_of_theory() -> None:
    values = (RNG.random(400) < 0.3).astype(float)
    draws = bootstrap_mean(values, np.arange(400), 4000, seed=0)
    assert draws.mean() == pytest.approx(values.mean(), abs=0.002)
    assert draws.std() == pytest.approx(values.std() / 20, rel=0.05)


def test_rows_that_hang_together_widen_the_interval() -> None:
    values = np.repeat(RNG.random(40) < 0.5, 10).astype(float)
    low, high = percentile(bootstrap_mean(values, np.repeat(np.arange(40), 10), 2000, 0), 0.95)
    narrow_low, narrow_high = percentile(bootstrap_mean(values, np.arange(400), 2000, 0), 0.95)
    assert high - low > 2.5 * (narrow_high - narrow_low)


def test_pearson_of_a_resample_is_scipy_s_of_the_rows_drawn() -> None:
    x, y, groups = RNG.integers(1, 6, 60).astype(float), RNG.random(60) * 4 + 1, RNG.integers(0, 20, 60)
    draws = bootstrap_pearson(x, y, groups, 50, seed=2)
    # How often each group was drawn, from indicator columns under the same seed.
    names = np.unique(groups)
    counts = resample((groups[:, None] == names).astype(float), groups, 50, seed=2) / np.bincount(groups)[names]
    for value, drawn in zip(draws, counts, strict=True):
        rows = np.repeat(np.arange(60), drawn[np.searchsorted(names, groups)].astype(int))
        assert value == pytest.approx(pearsonr(x[rows], y[rows]).statistic)


def test_pearson_of_constant_scores_is_zero_in_every_resample() -> None:
    assert (bootstrap_pearson(np.full(20, 2.2), RNG.random(20), np.arange(20), 100, 0) == 0).all()


def test_one_group_has_no_interval() -> None:
    assert clustered(lambda: np.ones(3), ["a", "a"], 0.95) == (None, (None, None))
    draws, interval = clustered(lambda: np.arange(101.0), ["a", "b"], 0.9)
    assert draws is not None
    assert interval == pytest.approx((5.0, 95.0))


def test_wilson_by_hand() -> None:
    # Wilson (1927): centre (p + z²/2n) / (1 + z²/n), half width z·sqrt(p(1-p)/n + z²/4n²) / (1 + z²/n).
    p, n, z = 8 / 10, 10, 1.959963984540054
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    assert wilson(8, 10, 0.95) == pytest.approx((centre - half, centre + half))
    assert wilson(0, 0, 0.95) == (None, None)


def test_fisher_z_by_hand() -> None:
    x = np.arange(12.0)
    y = x + RNG.normal(0, 4, 12)
    z = np.arctanh(np.corrcoef(x, y)[0, 1])
    half = 1.959963984540054 / np.sqrt(12 - 3)
    assert fisher_z(x, y, 0.95) == pytest.approx((np.tanh(z - half), np.tanh(z + half)))


def test_fisher_z_needs_rows_that_vary() -> None:
    assert fisher_z([1, 2, 3], [1, 2, 3], 0.95) == (None, None)
    assert fisher_z([3, 3, 3, 3, 3], [1, 2, 3, 4, 5], 0.95) == (None, None)


def test_any_figure_is_drawn_from_the_same_resamples() -> None:
    values, groups = RNG.random(30), RNG.integers(0, 9, 30)
    table = pd.DataFrame({"value": values, "group_id": groups})
    slow = bootstrap(lambda rows: float(rows["value"].mean()), table, 100, seed=4)
    assert slow == pytest.approx(bootstrap_mean(values, groups, 100, seed=4))
    undefined = bootstrap(lambda rows: None, table, 3, seed=4)
    assert np.isnan(undefined).all()
    assert clustered(lambda: np.array([0.5, np.nan]), ["a", "b"], 0.95) == (None, (None, None))


def test_a_gap_is_the_mean_of_the_one_kind_minus_that_of_the_other() -> None:
    values, first = np.array([4.0, 2.0, 1.0, 0.0]), np.array([True, True, False, False])
    drawn = bootstrap_gap(values, first, ["a", "a", "a", "b"], 200, seed=0)
    # Both groups once: 3 - 0.5; group a twice: 3 - 1; group b twice has no row of the first kind.
    assert set(drawn) == {2.5, 2.0}
    counts = resample(np.eye(2), ["a", "b"], 200, seed=0)
    assert len(drawn) == (counts[:, 0] > 0).sum() < 200


def test_resamples_drawn_in_chunks_are_those_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = resample(np.eye(5), list("abcde"), 11, seed=3)
    monkeypatch.setattr(intervals, "CHUNK", 15)  # three resamples at a time
    assert (resample(np.eye(5), list("abcde"), 11, seed=3) == whole).all()
