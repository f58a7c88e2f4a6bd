"""Means, differences and ranks of judged systems, calibrated by a few labels; the naive figures beside them.

The estimates are those of cje-eval (arXiv 2512.11150): the judge's scores are mapped to labels on the labelled rows, a
system's mean of mapped scores is corrected by the mean residual of its own labels, and the interval has both the
sampling of prompts, clustered, and the fit of the map. Targets are means over prompts like these, not over these alone.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import numpy as np
from pydantic import Field

from pipelines.core.errors import UserError, one_line
from pipelines.core.yaml_model import Strict
from pipelines.experiments.calibrate.config import CalibrateConfig
from pipelines.experiments.calibrate.rows import Judged, by_system

ALL = "all systems"


class Interval(Strict):
    """A figure with its interval; no figure where it is refused."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Mean(Strict):
    """A system's mean, as three ways of looking have it."""

    system: str
    n: int
    """Judged rows."""
    labels: int
    """Of them with a label."""
    calibrated: Interval
    """By all scores and the labels."""
    naive: Interval
    """As if the judge's scores were labels: their mean, with the interval of a mean."""
    labels_only: Interval
    """By the labels alone."""
    refused: str = ""
    """Why the labels cannot carry a calibrated mean."""
    notes: list[str] = Field(default_factory=list)
    """What a reader must know of it."""


class Gap(Strict):
    """The difference of two systems' means, on the same prompts."""

    system: str
    other: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    """By Holm's procedure, over all pairs."""
    naive: float
    shown: str
    """`higher`, `lower` or `undecided`, for `system`."""


class Rank(Strict):
    """A place in the ranking: 1 is the best."""

    system: str
    rank: int
    best: int
    """Not more systems than this, less one, are surely better."""
    worst: int
    naive: int


class Estimates(Strict):
    """All that is said of the systems."""

    total: Mean
    """Over all rows."""
    means: list[Mean]
    gaps: list[Gap]
    ranking: list[Rank]


def check_random(rows: Sequence[Judged], config: CalibrateConfig) -> float | None:
    """The p-value of the scores of labelled and other rows being alike (Kolmogorov-Smirnov); None where all have one.

    Raises:
        UserError: it is below `least_random`: the labelled rows were chosen by something that the judge sees too.
    """
    from scipy.stats import ks_2samp

    labelled = [row.score for row in rows if row.label is not None]
    others = [row.score for row in rows if row.label is None]
    if not labelled or not others:
        return None
    p = float(ks_2samp(labelled, others).pvalue)
    if p < config.least_random:
        raise UserError(
            f"the labelled rows are no random sample: their scores differ from the others' (p = {p:.2g})",
            where="calibrate.input",
            fix="label rows of to_label.csv, or of a hash",
        )
    return p


def estimate(rows: Sequence[Judged], config: CalibrateConfig) -> Estimates:
    """All figures of some judged rows.

    Raises:
        UserError: the labels are too few, or no random sample.
    """
    labels = sum(row.label is not None for row in rows)
    if labels < config.least_labels:
        raise UserError(
            f"{labels} labels cannot carry anything: {config.least_labels} are needed",
            where="calibrate",
            fix="label the rows of to_label.csv and name them in calibrate.labels",
        )
    check_random(rows, config)
    systems = by_system(list(rows))
    if len(systems) == 1:
        total = _means({ALL: list(rows)}, config)[0][0]
        return Estimates(total=total, means=[], gaps=[], ranking=[])
    total = _means({ALL: list(rows)}, config)[0][0]
    means, result = _means(systems, config)
    gaps = _gaps(means, result, config) if result is not None else []
    return Estimates(total=total, means=means, gaps=gaps, ranking=ranking(means, gaps))


def _means(systems: dict[str, list[Judged]], config: CalibrateConfig) -> tuple[list[Mean], Any]:
    """The means of some systems, and the library's result; None where no system can be carried."""
    own = {name: sum(row.label is not None for row in rows) for name, rows in systems.items()}
    result = _calibrated(systems) if any(n >= config.least_labels for n in own.values()) else None
    places: dict[str, int] = {}
    if result is not None:
        low, high = result.confidence_interval(1 - config.level)
        places = {name: place for place, name in enumerate(result.target_policies)}
    means = []
    for name, rows in systems.items():
        refused, notes, found = "", [], Interval(value=None)
        if own[name] < config.least_labels:
            refused = f"{own[name]} labels of its own, {config.least_labels} are needed"
        elif result is not None:
            at = places[name]
            found = Interval(value=float(result.estimates[at]), low=float(low[at]), high=float(high[at]))
            notes = _notes(result, name)
        scores, labels = [row.score for row in rows], [row.label for row in rows if row.label is not None]
        plain = {
            "naive": mean_interval(scores, config.level),
            "labels_only": mean_interval(labels, config.level),
        }
        about = {"system": name, "n": len(rows), "labels": own[name], "refused": refused, "notes": notes}
        means.append(Mean(calibrated=found, **plain, **about))
    return means, result


def _calibrated(systems: dict[str, list[Judged]]) -> Any:
    """The library's result for all systems at once: labels of one help to map the scores of another."""
    from cje import analyze_dataset

    every = [row for rows in systems.values() for row in rows]
    scores, labels = [row.score for row in every], [row.label for row in every if row.label is not None]
    draws = {
        name: [
            {"prompt_id": row.prompt, "row_id": f"{number}", "judge_score": row.score, "oracle_label": row.label}
            for number, row in enumerate(rows)
        ]
        for name, rows in systems.items()
    }
    scales: dict[str, Any] = {"fresh_judge_scale": scale_of(scores), "fresh_oracle_scale": scale_of(labels)}
    try:
        with quiet():
            return analyze_dataset(fresh_draws_data=draws, **scales)
    except ValueError as exc:
        raise UserError(f"cannot be calibrated: {one_line(exc)}", where="calibrate.input") from None


def scale_of(values: Sequence[float]) -> tuple[float, float]:
    """The ends of a scale that holds all values and has a length."""
    low, high = min(values), max(values)
    return (low, high) if low < high else (low, low + 1.0)


def _notes(result: Any, name: str) -> list[str]:
    """What the library says of one system, in our words."""
    card = (result.metadata.get("boundary_cards") or {}).get(name) or {}
    outside = card.get("out_of_range") or card.get("out_of_range_fraction") or 0.0
    if card.get("status") == "REFUSE-LEVEL":
        return [f"{outside:.0%} of its scores lie outside those of labelled rows: there the map is a guess"]
    return []


def _gaps(means: list[Mean], result: Any, config: CalibrateConfig) -> list[Gap]:
    """Every pair of systems that both have a mean, with Holm's procedure over all of them."""
    from statsmodels.stats.multitest import multipletests

    kept = [one for one in means if not one.refused]
    pairs = list(combinations(kept, 2))
    with quiet():
        found = [result.compare_policies(one.system, other.system, 1 - config.level) for one, other in pairs]
    if not found:
        return []
    adjusted = multipletests([one["p_value"] for one in found], 1 - config.level, method="holm")[1]
    gaps = []
    for (one, other), gap, p_holm in zip(pairs, found, adjusted, strict=True):
        sure = p_holm < 1 - config.level
        shown = ("higher" if gap["difference"] > 0 else "lower") if sure else "undecided"
        naive = (one.naive.value or 0.0) - (other.naive.value or 0.0)
        values = {"difference": gap["difference"], "low": gap["ci_lower"], "high": gap["ci_upper"], "p": gap["p_value"]}
        numbers = {name: float(value) for name, value in {**values, "p_holm": p_holm, "naive": naive}.items()}
        gaps.append(Gap(system=one.system, other=other.system, shown=shown, **numbers))
    return gaps


def ranking(means: Sequence[Mean], gaps: Sequence[Gap]) -> list[Rank]:
    """The systems that have a mean, the best first, each with the places that its sure differences leave."""
    kept = sorted((one for one in means if not one.refused), key=lambda one: (-(one.calibrated.value or 0), one.system))
    naive = sorted(kept, key=lambda one: (-(one.naive.value or 0), one.system))
    better = {one.system: 0 for one in kept}
    worse = dict(better)
    for gap in gaps:
        if gap.shown != "undecided":
            up, down = (gap.system, gap.other) if gap.shown == "higher" else (gap.other, gap.system)
            better[down] += 1
            worse[up] += 1
    return [
        Rank(
            system=one.system,
            rank=place,
            best=1 + better[one.system],
            worst=len(kept) - worse[one.system],
            naive=naive.index(one) + 1,
        )
        for place, one in enumerate(kept, start=1)
    ]


def mean_interval(values: Sequence[float], level: float) -> Interval:
    """The mean of independent values with Student's interval; of one value no interval."""
    from scipy.stats import t

    if not values:
        return Interval(value=None)
    value = float(np.mean(values))
    if len(values) < 2:
        return Interval(value=value)
    half = float(t.ppf(0.5 + level / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(value=value, low=value - half, high=value + half)


@contextmanager
def quiet() -> Iterator[None]:
    """The library says in a log what its result says too."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
