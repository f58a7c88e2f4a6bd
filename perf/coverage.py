"""How often a confidence interval of an evaluation holds the true figure, by simulation: a Markdown table.

    python perf/coverage.py --trials 2000

Every interval of a report is of one of the kinds below. Rows come alone, or in groups whose rows are more or less alike
(`icc`, the share of the variance that rows of a group have in common). A nominal 95% should hold in 93 to 97 of 100.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from pipelines.evaluation.scoring import bias, correlations, intervals, self_preference
from pipelines.evaluation.scoring.intervals import Floats, Interval, Measured
from pipelines.evaluation.scoring.jackknife import of_bounded
from pipelines.evaluation.scoring.metrics import pearson

CONFIDENCE = 0.95
SIZES = (30, 80, 400)
GROUPS = ((1, 0.0), (2, 0.5), (4, 0.5))  # rows of a group, and how alike they are


class Case(NamedTuple):
    """One kind of figure: what makes an interval of fresh data, and the truth it should hold."""

    name: str
    truth: float
    interval: Callable[[np.random.Generator, int, int, float], Interval]


def normal(generator: np.random.Generator, n: int, size: int, icc: float) -> Floats:
    """Standard normal numbers, alike within groups; shape (n,)."""
    own, shared = generator.standard_normal(n), generator.standard_normal(n // size)
    return np.asarray(np.sqrt(icc) * np.repeat(shared, size) + np.sqrt(1 - icc) * own)


def groups_of(n: int, size: int) -> Floats:
    """The group of each row; shape (n,)."""
    return np.repeat(np.arange(n // size, dtype=np.float64), size)


def right(generator: np.random.Generator, n: int, size: int, icc: float, share: float) -> Floats:
    """Points 0 and 1 with a mean of `share`."""
    return (normal(generator, n, size, icc) < norm.ppf(share)).astype(np.float64)


def of_accuracy(share: float) -> Case:
    """Rows right with a chance."""

    def interval(generator: np.random.Generator, n: int, size: int, icc: float) -> Interval:
        return intervals.of_mean(right(generator, n, size, icc, share), groups_of(n, size)).interval(CONFIDENCE)

    return Case(f"accuracy, p = {share:g}", share, interval)


def of_pairs(both: float, once: float) -> Case:
    """Pairs in two orders: right in both, in one, or in none."""

    def interval(generator: np.random.Generator, n: int, size: int, icc: float) -> Interval:
        level = norm.cdf(normal(generator, n, size, icc))
        points = np.where(level < both, 1.0, np.where(level < both + once, 0.5, 0.0))
        return intervals.of_mean(points, groups_of(n, size)).interval(CONFIDENCE)

    return Case(f"pairs, both orders right {both:g}, one {once:g}", both + once / 2, interval)


def of_sections(shares: tuple[float, ...]) -> Case:
    """The mean of sections of equal size."""

    def interval(generator: np.random.Generator, n: int, size: int, icc: float) -> Interval:
        parts = [intervals.of_mean(right(generator, n, size, icc, share), groups_of(n, size)) for share in shares]
        return intervals.mean_of(parts).interval(CONFIDENCE)

    return Case(
        f"mean of benchmarks or sections, p = {', '.join(f'{share:g}' for share in shares)}",
        sum(shares) / len(shares),
        interval,
    )


def of_difference(one: float, two: float, together: float) -> Case:
    """Two models on the same rows, alike to a degree."""

    def interval(generator: np.random.Generator, n: int, size: int, icc: float) -> Interval:
        first, other = normal(generator, n, size, icc), normal(generator, n, size, icc)
        second = together * first + np.sqrt(1 - together**2) * other
        points = [(level < norm.ppf(share)).astype(np.float64) for level, share in ((first, one), (second, two))]
        sides = [intervals.of_mean(side, groups_of(n, size)) for side in points]
        return intervals.difference(*sides).interval(CONFIDENCE)

    return Case(f"difference of accuracy, {one:g} and {two:g}, alike {together:g}", one - two, interval)


def scores(generator: np.random.Generator, n: int, size: int, icc: float, r: float) -> tuple[Floats, Floats]:
    """Scores and gold scores from 1 to 5; before rounding they correlate by r."""
    gold = normal(generator, n, size, icc)
    score = r * gold + np.sqrt(1 - r * r) * normal(generator, n, size, icc)
    rounded = [np.clip(np.round(3 + 1.2 * level), 1, 5) for level in (score, gold)]
    return rounded[0], rounded[1]


def table_of(score: Floats, gold: Floats, n: int, size: int) -> pd.DataFrame:
    """As a metric reads it."""
    return pd.DataFrame({"score": score, "gold": gold, "group_id": groups_of(n, size)})


def of_pearson(r: float) -> Case:
    """Scores on a scale of five."""

    def interval(generator: np.random.Generator, n: int, size: int, icc: float) -> Interval:
        return pearson.measure(table_of(*scores(generator, n, size, icc, r), n, size)).interval(CONFIDENCE)

    truth = correlations.pearson(*scores(np.random.default_rng(0), 1_000_000, 1, 0.0, r))
    assert truth is not None
    return Case(f"Pearson, r = {truth:.2f}", truth, interval)


def of_pearson_difference(one: float, two: float) -> Case:
    """Two models' scores of the same rows."""

    def judged(generator: np.random.Generator, n: int, size: int, icc: float) -> list[Measured]:
        gold = normal(generator, n, size, icc)
        found = []
        for r in (one, two):
            score = r * gold + np.sqrt(1 - r * r) * normal(generator, n, size, icc)
            said, label = (np.clip(np.round(3 + 1.2 * level), 1, 5) for level in (score, gold))
            found.append(pearson.measure(table_of(said, label, n, size)))
        return found

    def interval(generator: np.random.Generator, n: int, size: int, icc: float) -> Interval:
        return intervals.difference(*judged(generator, n, size, icc)).interval(CONFIDENCE)

    whole = [
        pearson.pearson(table_of(*scores(np.random.default_rng(0), 1_000_000, 1, 0.0, r), 1_000_000, 1))
        for r in (one, two)
    ]
    assert whole[0] is not None and whole[1] is not None
    return Case(f"difference of Pearson, {whole[0]:.2f} and {whole[1]:.2f}", whole[0] - whole[1], interval)


def of_balanced(share: float, yes: float) -> Case:
    """A metric without a formula of its own: balanced accuracy of two labels, by the jackknife."""

    def value(counts: Floats) -> Floats:
        """Of counts of right and of all rows; last axes: label, these two."""
        with np.errstate(invalid="ignore"):
            return np.asarray((counts[..., 0] / counts[..., 1]).mean(axis=-1))

    def interval(generator: np.random.Generator, n: int, size: int, icc: float) -> Interval:
        gold, points = right(generator, n, size, icc, yes), right(generator, n, size, icc, share)
        of_label = np.stack([1 - gold, gold], axis=1)
        rows = np.stack([of_label * points[:, None], of_label], axis=2)
        counts = rows.reshape(n // size, size, 2, 2).sum(axis=1)
        whole = counts.sum(axis=0)
        return of_bounded(float(value(whole)), value(whole - counts), (0.0, 1.0), n).interval(CONFIDENCE)

    return Case(f"balanced accuracy, p = {share:g}, {yes:.0%} of one label", share, interval)


def of_length(longer: float, shorter: float) -> Case:
    """Accuracy where the longer response is right minus where it is not."""

    def interval(generator: np.random.Generator, n: int, size: int, icc: float) -> Interval:
        first = generator.random(n) < 0.5
        level = norm.cdf(normal(generator, n, size, icc))
        points, groups = (level < np.where(first, longer, shorter)).astype(float), groups_of(n, size)
        one, two = (intervals.of_mean(points, groups, part) for part in (first, ~first))
        return intervals.difference(one, two).interval(CONFIDENCE)

    return Case(f"length, {longer:g} and {shorter:g}", longer - shorter, interval)


def of_coefficient(slope: float) -> Case:
    """Log-odds of choosing the response shown first per 100 characters that it is longer."""

    def interval(generator: np.random.Generator, n: int, size: int, icc: float) -> Interval:
        longer = 400 * normal(generator, n, size, icc)
        noise = np.log(1 / norm.cdf(normal(generator, n, size, icc)) - 1)  # logistic, alike within groups
        chose = (slope * longer / bias.PER > noise).astype(np.float64)
        found = bias.logistic(chose, [longer / bias.PER], groups_of(n, size), CONFIDENCE)
        return found.ci_low, found.ci_high

    return Case(f"length, log-odds {slope:g} per 100 characters", slope, interval)


def of_own_scores(extra: float) -> Case:
    """How much higher a judge that compresses the scale scores its own responses, a third of all, given gold."""

    def interval(generator: np.random.Generator, n: int, size: int, icc: float) -> Interval:
        own = generator.random(n) < 1 / 3
        gold = 3 + own + normal(generator, n, size, icc)
        score = 1.5 + gold / 2 + extra * own + 0.5 * normal(generator, n, size, icc)
        return self_preference.given_gold(score, gold, own, groups_of(n, size)).interval(CONFIDENCE)

    return Case(f"self-preference of scores, {extra:g}", extra, interval)


def cases() -> Iterator[Case]:
    """Every kind of interval, at a few points each."""
    yield from (of_accuracy(share) for share in (0.5, 0.8, 0.95))
    yield from (of_pairs(*shares) for shares in ((0.25, 0.5), (0.05, 0.9), (0.64, 0.32)))
    yield of_sections((0.5, 0.8, 0.95))
    yield from (
        of_difference(*point) for point in ((0.5, 0.5, 0.6), (0.8, 0.5, 0.6), (0.8, 0.8, 0.0), (0.95, 0.8, 0.6))
    )
    yield from (of_pearson(r) for r in (0.0, 0.5, 0.8, 0.95))
    yield from (of_pearson_difference(*point) for point in ((0.5, 0.5), (0.9, 0.5)))
    yield from (of_balanced(share, 0.4) for share in (0.5, 0.8, 0.95))
    yield of_length(0.8, 0.6)
    yield of_coefficient(0.1)
    yield from (of_own_scores(extra) for extra in (0.0, 0.5))


def coverage(case: Case, n: int, size: int, icc: float, trials: int, seed: int = 0) -> tuple[float, float]:
    """Share of the intervals that hold the truth, and share of the trials that give an interval."""
    generator = np.random.default_rng([seed, n, size])
    held = given = 0
    for _ in range(trials):
        low, high = case.interval(generator, n - n % size, size, icc)
        if low is not None and high is not None:
            given += 1
            held += low - intervals.EXACT <= case.truth <= high + intervals.EXACT
    return held / max(given, 1), given / trials


def main() -> None:
    """Print the table; a share of trials with an interval is shown where it is not 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--only", default="", help="kinds whose name has this text")
    arguments = parser.parse_args()
    columns = [(n, size, icc) for n in SIZES for size, icc in GROUPS]
    print(
        "| interval | " + " | ".join(f"n = {n}" + (f", groups of {size}" if size > 1 else "") for n, size, _ in columns)
    )
    print("|---|" + "---|" * len(columns))
    for case in cases():
        if arguments.only in case.name:
            cells = []
            for n, size, icc in columns:
                held, given = coverage(case, n, size, icc, arguments.trials)
                cells.append(f"{held:.1%}" + (f" ({given:.0%})" if given < 1 else ""))
            print(f"| {case.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
