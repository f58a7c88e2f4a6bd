"""Means, differences and ranks of judged systems, calibrated by a few labels; the naive figures beside them.

The estimates are those of cje-eval (arXiv 2512.11150): the judge's scores are mapped to labels on the labelled rows, a
system's mean of mapped scores is corrected by the mean residual of its own labels, and the interval has both the
sampling of prompts, clustered, and the fit of the map. Targets are means over prompts like these, not over these alone.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import combinations
from typing import Any, Literal

from pydantic import Field

from pipelines.core.errors import UserError, one_line
from pipelines.core.yaml_model import Strict
from pipelines.experiments.calibrate.config import CalibrateConfig
from pipelines.experiments.calibrate.plain import Interval, mean_interval
from pipelines.experiments.calibrate.refusal import refusal
from pipelines.experiments.calibrate.rows import by_system
from pipelines.experiments.calibrate.sampled import check_random
from pipelines.experiments.calibrate.values import Judged

ALL = "all systems"


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
    difference: float | None
    """None where it is refused, as are all figures but the naive one."""
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    """By Holm's procedure, over all pairs that have a p-value."""
    naive: float
    shown: Literal["higher", "lower", "undecided"]
    """For `system`."""
    refused: str = ""
    """Why there is no difference."""


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
    why = {name: refusal(rows, config.least_labels) for name, rows in systems.items()}
    result = None if all(why.values()) else _calibrated(systems)
    places: dict[str, int] = {}
    if result is not None:
        low, high = result.confidence_interval(1 - config.level)
        places = {name: place for place, name in enumerate(result.target_policies)}
    scale = {row.label for rows in systems.values() for row in rows if row.label is not None}
    means = []
    for name, rows in systems.items():
        refused, notes, found = why[name], [], Interval(value=None)
        if not refused and result is not None:
            at = places[name]
            figures = [float(one[at]) for one in (result.estimates, low, high)]
            if all(map(math.isfinite, figures)):
                found = Interval(value=figures[0], low=figures[1], high=figures[2])
                notes = _notes(result, name)
            else:
                refused = "cje-eval gives no finite interval"
        scores, labels = [row.score for row in rows], [row.label for row in rows if row.label is not None]
        plain = {
            "naive": mean_interval(scores, config.level),
            "labels_only": mean_interval(labels, config.level, scale),
        }
        about = {"system": name, "n": len(rows), "labels": len(labels), "refused": refused, "notes": notes}
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
    """Every pair of systems that both have a mean, with Holm's procedure over all that have a p-value."""
    from statsmodels.stats.multitest import multipletests

    kept = [one for one in means if not one.refused]
    pairs = list(combinations(kept, 2))
    with quiet():
        found = [_figures(result.compare_policies(one.system, other.system, 1 - config.level)) for one, other in pairs]
    known = [one["p"] for one in found if one]
    adjusted = iter(multipletests(known, method="holm")[1].tolist() if known else [])
    return [
        _gap(one, other, figures, adjusted, config.level) for (one, other), figures in zip(pairs, found, strict=True)
    ]


def _figures(found: dict[str, Any]) -> dict[str, float]:
    """The library's figures of a difference; empty where one is missing or not finite."""
    names = {"difference": "difference", "low": "ci_lower", "high": "ci_upper", "p": "p_value"}
    values = {name: float(found.get(theirs, math.nan)) for name, theirs in names.items()}
    return values if all(map(math.isfinite, values.values())) else {}


def _gap(one: Mean, other: Mean, figures: dict[str, float], adjusted: Iterator[float], level: float) -> Gap:
    """A difference, decided or not, or refused."""
    about: dict[str, Any] = {"system": one.system, "other": other.system}
    about["naive"] = (one.naive.value or 0.0) - (other.naive.value or 0.0)
    if not figures:
        nothing = dict.fromkeys(("difference", "low", "high", "p", "p_holm"))
        return Gap(**about, **nothing, shown="undecided", refused="cje-eval gives no finite interval")
    p_holm = next(adjusted)
    up: Literal["higher", "lower"] = "higher" if figures["difference"] > 0 else "lower"
    return Gap(**about, **figures, p_holm=p_holm, shown=up if p_holm < 1 - level else "undecided")


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
