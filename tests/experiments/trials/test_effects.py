"""Gains: their value, the two sources of chance in their interval, and what is undefined."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from pipelines.core import storage
from pipelines.experiments.trials.effects import MEAN, Tables, gains, outcome, tasks_of, values
from pipelines.experiments.trials.trial import draw, shared, trial
from pipelines.experiments.trials.worker import JUDGED, VERDICTS

TASKS = {"pairwise": ["p"], "absolute": ["a"]}


def points(values: list[float], groups: list[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"group_id": groups or [str(i) for i in range(len(values))], "points": values})


def scores(values: list[float], gold: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"group_id": [str(i) for i in range(len(values))], "score": values, "gold": gold})


def both(seed: int, right: float = 0.5, noise: float = 1.0, n: int = 60) -> Tables:
    random = np.random.default_rng(seed)
    gold = np.random.default_rng(99).integers(1, 6, n).astype(float)
    found = gold + noise * 3 * random.standard_normal(n)
    return {"p": points((random.random(n) < right).astype(float).tolist()), "a": scores(found.tolist(), gold.tolist())}


def test_a_gain_is_the_mean_of_what_each_seed_gains_on_the_same_rows() -> None:
    ours, base = [both(1, 0.9, 0.2), both(2, 0.8, 0.3)], both(0)
    found = gains(ours, [base], TASKS)
    each = [one["p"]["points"].mean() - base["p"]["points"].mean() for one in ours]
    assert found["pairwise"].seeds == pytest.approx(each) and found["pairwise"].measured.value == pytest.approx(
        np.mean(each)
    )
    r = [stats.pearsonr(one["a"]["score"], one["a"]["gold"])[0] for one in (*ours, base)]
    assert found["absolute"].measured.value == pytest.approx((r[0] + r[1]) / 2 - r[2])
    halves = [found[task].measured.value or 0 for task in TASKS]
    assert found[MEAN].measured.value == pytest.approx(sum(halves) / 2) and found[MEAN].rows == 120


def test_seeds_that_agree_leave_the_interval_of_the_paired_rows() -> None:
    one, base = both(1, 0.9), both(0)
    found = gains([one, one, one], [base], {"pairwise": ["p"]})["pairwise"].measured
    assert found.bounds is not None
    paired = stats.ttest_rel(one["p"]["points"], base["p"]["points"])
    assert found.bounds(0.95) == pytest.approx(tuple(paired.confidence_interval(0.95)), abs=1e-9)
    assert found.p_value() == pytest.approx(paired.pvalue, abs=1e-6)


def test_rows_that_never_differ_leave_the_interval_of_the_seeds() -> None:
    base = {"p": points([0.5] * 40)}
    seeds = [{"p": points([0.5 + gain] * 40)} for gain in (0.1, 0.3, 0.2)]
    found = gains(seeds, [base], {"pairwise": ["p"]})["pairwise"].measured
    assert found.bounds is not None
    plain = stats.ttest_1samp([0.1, 0.3, 0.2], 0)
    assert found.bounds(0.9) == pytest.approx(tuple(plain.confidence_interval(0.9)))


def test_related_rows_count_as_one() -> None:
    ours, base = [both(1, 0.8), both(2, 0.8)], both(0)
    apart = gains(ours, [base], {"pairwise": ["p"]})["pairwise"].measured
    groups = [str(i // 10) for i in range(60)]
    tied = [{"p": points(np.repeat(one["p"]["points"][::10], 10).tolist(), groups)} for one in (*ours, base)]
    together = gains(tied[:2], [tied[2]], {"pairwise": ["p"]})["pairwise"].measured
    assert apart.bounds and together.bounds
    width = [np.ptp(one.bounds(0.9)) for one in (apart, together) if one.bounds]
    assert width[1] > 2 * width[0]


def test_seeds_are_paired_with_those_of_the_other_side() -> None:
    ours, theirs = [both(i, 0.9) for i in range(3)], [both(i + 10, 0.5) for i in range(3)]
    found = gains(ours, theirs, {"pairwise": ["p"]})["pairwise"]
    assert found.seeds == pytest.approx(
        [a["p"]["points"].mean() - b["p"]["points"].mean() for a, b in zip(ours, theirs, strict=True)]
    )


@pytest.mark.parametrize("effect", [0.0, 0.1])
def test_intervals_of_a_gain_cover_it(effect: float) -> None:
    """Of 120 experiments with noise from rows and from seeds, at least 90 in 100 intervals have the true gain."""
    covered = 0
    for number in range(120):
        random = np.random.default_rng(number)
        rows, seeds = random.normal(effect, 0.4, 50), random.normal(0, 0.08, 3)
        base = {"p": points([0.0] * 50)}
        ours = [{"p": points((rows + one + random.normal(0, 0.2, 50)).tolist())} for one in seeds]
        bounds = gains(ours, [base], {"pairwise": ["p"]})["pairwise"].measured.bounds
        assert bounds
        low, high = bounds(0.95)
        covered += low <= effect <= high
    assert covered >= 108


@pytest.mark.parametrize("count", [18, 30, 45, 60, 80])
def test_seeds_that_share_rows_say_less_of_the_source(count: int) -> None:
    """Few of 300 sources without an effect look as if they had one; many, if shared rows were not counted."""
    base, wrong = {"p": points([0.0] * 40)}, {"counted": 0, "not counted": 0}
    for number in range(300):
        random = np.random.default_rng(number)
        order = [f"{i}" for i in random.permutation(90)]
        effect = dict(zip(order, random.normal(0, 0.3, 90), strict=True))
        trials = [trial(own, seed) for seed, own in enumerate(draw(order, count, range(5)))]
        ours = [{"p": points([np.mean([effect[row] for row in one.rows])] * 40)} for one in trials]
        for name, common in (("counted", shared(trials)), ("not counted", 0.0)):
            bounds = gains(ours, [base], {"pairwise": ["p"]}, common)["pairwise"].measured.bounds
            assert bounds
            low, high = bounds(0.95)
            wrong[name] += not low <= 0 <= high
    assert wrong["counted"] <= 24 and (wrong["not counted"] > 75 or count < 45), wrong


def test_seeds_on_the_same_rows_say_nothing_of_the_source() -> None:
    found = gains([both(1), both(2)], [both(0)], {"pairwise": ["p"]}, 1.0)["pairwise"].measured
    assert found.bounds is None and "same rows" in (found.why or "") and found.value is not None


def test_what_does_not_vary_has_no_interval_and_what_has_no_gold_no_value() -> None:
    same = {"p": points([1.0, 0.0] * 20)}
    found = gains([same, same], [same], {"pairwise": ["p"]})["pairwise"].measured
    assert found.value == 0 and found.bounds is None and found.p_value() == 1
    flat = {"a": scores([1.0, 2, 3], [2.0, 2, 2])}
    assert gains([flat, flat], [flat], {"absolute": ["a"]})[MEAN].measured.value is None
    assert values([flat], {"absolute": ["a"]}) == {"absolute": None}


def rows() -> list[dict[str, Any]]:
    common = {"group_id": "g", "subset": None}
    return [
        {"judgment_id": "1", "benchmark": "p", "task": "pairwise", "gold": "B", "allowed": ["A", "B", "Tie"], **common},
        {"judgment_id": "2", "benchmark": "a", "task": "absolute", "gold": "2.5", "allowed": ["1", "2", "3"], **common},
    ]


def test_the_likeliest_verdict_counts_and_the_mean_of_the_scale(tmp_path: Path) -> None:
    lines = [{"judgment_id": "2", "probs": [0.25, 0.25, 0.5]}, {"judgment_id": "1", "probs": [0.2, 0.5, 0.3]}]
    storage.write_table(tmp_path / VERDICTS, pa.Table.from_pylist(lines, JUDGED))
    found = outcome(tmp_path, rows())
    assert found["p"]["points"].tolist() == [1.0] and found["a"]["score"].tolist() == [2.25]
    assert found["a"]["gold"].tolist() == [2.5] and tasks_of(rows()) == {"pairwise": ["p"], "absolute": ["a"]}


def test_equally_likely_verdicts_share_the_point(tmp_path: Path) -> None:
    lines = [{"judgment_id": "1", "probs": [1 / 3] * 3}, {"judgment_id": "2", "probs": [1 / 3] * 3}]
    storage.write_table(tmp_path / VERDICTS, pa.Table.from_pylist(lines, JUDGED))
    assert math.isclose(outcome(tmp_path, rows())["p"]["points"][0], 1 / 3)


def test_the_set_that_leaves_a_mean_undefined_is_named() -> None:
    tables = both(1) | {"b": scores([1.0, 2.0, 3.0], [4.0, 4.0, 4.0])}
    several = gains([tables], [both(0) | {"b": tables["b"]}], {"pairwise": ["p"], "absolute": ["a", "b"]})
    why = "b: fewer than two groups of rows, or nothing varies"
    for task in ("absolute", MEAN):
        assert several[task].measured.value is None and several[task].measured.why == why
    assert several["pairwise"].measured.bounds is not None
    alone = gains([tables], [tables], {"absolute": ["b"]})["absolute"].measured
    assert alone.why == "fewer than two groups of rows, or nothing varies"
