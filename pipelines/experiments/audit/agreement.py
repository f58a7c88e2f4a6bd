"""How far annotators agree: Krippendorff's alpha over all of them, Cohen's kappa of each two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import numpy as np

from pipelines.core.records import Row
from pipelines.core.yaml_model import Strict
from pipelines.experiments.audit.answers import BETTER, SUBSTANCE, UNCLEAR
from pipelines.experiments.audit.sample import shown_order

Line = Mapping[str, Any]
DRAWS = 500


class Kappa(Strict):
    """Cohen's kappa of two annotators."""

    annotators: tuple[str, str]
    kappa: float


class Agreement(Strict):
    """Agreement about one question."""

    question: str
    units: int
    """Pairs or critiques that two or more have answered."""
    annotators: int
    alpha: float | None
    """Krippendorff's, nominal or ordinal; None where all say the same thing everywhere, or nobody has a partner."""
    low: float | None
    high: float | None
    """Bootstrap over the units."""
    same: float | None
    """Share of pairs of answers that are equal."""
    kappa: list[Kappa]
    """Cohen's, of each two annotators with ten or more common units; quadratic weights where answers are ordered."""


def agreement(table: Sequence[Line], seed: int) -> list[Agreement]:
    """Of all questions.

    Args:
        table: a line an annotator and pair (`Answers.table`).
        seed: of the bootstrap.
    """
    sides = sorted({str(value) for line in table for name, value in line.items() if name.startswith("side_")})
    return [
        _about("which side it argues for", units(table, "side"), sides, False, seed),
        _about("substance", units(table, "substance"), list(SUBSTANCE), True, seed),
        _about("which is better", units(table, "better"), list(BETTER), False, seed),
    ]


def units(table: Sequence[Line], question: str) -> dict[str, dict[str, str]]:
    """What is answered about -> annotator -> answer; of questions about each critique, a unit a critique."""
    found: dict[str, dict[str, str]] = {}
    for line in table:
        for name, value in line.items():
            if name == question or name.rpartition("_")[0] == question:
                found.setdefault(f"{line['pair']} {name}", {})[line["annotator"]] = value
    return found


def _about(name: str, answers: dict[str, dict[str, str]], values: list[str], ordered: bool, seed: int) -> Agreement:
    whole = {unit: own for unit, own in sorted(answers.items()) if len(own) > 1}
    names = sorted({one for own in whole.values() for one in own})
    codes = np.full((len(names), len(whole)), np.nan)  # (annotators, units)
    for place, own in enumerate(whole.values()):
        for one, value in own.items():
            codes[names.index(one), place] = values.index(value)
    low, high = bootstrap(codes, ordered, seed)
    pairs = [same for own in whole.values() for same in (one == other for one, other in combinations(own.values(), 2))]
    return Agreement(
        question=name,
        units=len(whole),
        annotators=len(names),
        alpha=alpha(codes, ordered),
        low=low,
        high=high,
        same=float(np.mean(pairs)) if pairs else None,
        kappa=kappas(names, codes, ordered),
    )


def bootstrap(codes: np.ndarray, ordered: bool, seed: int) -> tuple[float | None, float | None]:
    """The 95% interval of alpha over drawn units; none where most draws have no alpha."""
    count = codes.shape[1]
    if not count:
        return None, None
    draw = np.random.default_rng(seed)
    drawn = [alpha(codes[:, draw.integers(count, size=count)], ordered) for _ in range(DRAWS)]
    known = [one for one in drawn if one is not None]
    if len(known) <= DRAWS / 2:
        return None, None
    low, high = np.quantile(known, [0.025, 0.975])
    return float(low), float(high)


def alpha(codes: np.ndarray, ordered: bool) -> float | None:
    """Krippendorff's alpha of codes (annotators, units), NaN where there is no answer."""
    import krippendorff

    if codes.size == 0 or len(np.unique(codes[~np.isnan(codes)])) < 2:
        return None  # nothing varies: agreement by chance is certain
    level: Literal["ordinal", "nominal"] = "ordinal" if ordered else "nominal"
    return float(krippendorff.alpha(reliability_data=codes, level_of_measurement=level))


def kappas(names: Sequence[str], codes: np.ndarray, ordered: bool, least: int = 10) -> list[Kappa]:
    """Cohen's kappa of each two annotators with `least` common units, whose answers are not all the same."""
    from sklearn.metrics import cohen_kappa_score

    found = []
    for one, other in combinations(range(len(names)), 2):
        both = ~np.isnan(codes[one]) & ~np.isnan(codes[other])
        mine, theirs = codes[one][both], codes[other][both]
        if both.sum() >= least and len(np.unique([mine, theirs])) > 1:
            weights = "quadratic" if ordered else None
            value = float(cohen_kappa_score(mine, theirs, weights=weights))
            found.append(Kappa(annotators=(names[one], names[other]), kappa=value))
    return found


def said_of(table: Sequence[Line], rows: Mapping[str, Row], seed: int) -> list[dict[str, Any]]:
    """What people say of each critique, in terms of its side: a line an answer."""
    lines = []
    for line in table:
        row = rows.get(line["pair"])
        if row is None:
            continue
        for number, side in enumerate(shown_order(row, seed), start=1):
            argued, verdict = line.get(f"side_{number}"), row["verdict" if side == "chosen" else "rejected_verdict"]
            better, substance = line.get("better"), line.get(f"substance_{number}")
            lines.append(
                {
                    "annotator": line["annotator"],
                    "row_id": row["row_id"],
                    "source": row["source"],
                    "side": side,
                    "recovered": None if argued is None else argued == verdict,
                    "unclear": argued == UNCLEAR,
                    "substance": None if substance is None else int(substance),
                    "preferred": None if better is None else 0.5 if better == "equal" else float(better == str(number)),
                }
            )
    return lines
