"""What the measures, the checker and people say together: by side, by source, and against what training gained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipelines.core import storage
from pipelines.core.run import Run
from pipelines.experiments.audit.config import AuditConfig
from pipelines.experiments.records import record

MEASURES = {
    "words": "words",
    "grounded": "content words that are the responses'",
    "quotes": "quotes the responses",
    "form": "runs of words that other critiques have",
    "overlap": "overlap of the two sides",
    "states_verdict": "states the verdict",
    "blind": "side recovered by the checker",
}
LEAST_SOURCES = 4


def by_side(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The mean of each measure on either side, and of their difference within a row, with a paired interval."""
    frame = pd.DataFrame(lines)
    found = []
    for name, about in MEASURES.items():
        if name not in frame or frame[name].isna().all():
            continue
        table = frame.assign(value=frame[name].astype(float)).pivot(index="row_id", columns="side", values="value")
        line: dict[str, Any] = {"measure": name, "about": about, "n": len(table)}
        line |= {side: _mean(table[side]) for side in ("chosen", "rejected")}
        gap = (table["chosen"] - table["rejected"]).dropna()
        found.append({**line, "difference": None if name == "overlap" else _mean(gap), **_interval(gap, name)})
    return found


def _mean(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.mean()) if len(known) else None


def _interval(gap: pd.Series, name: str) -> dict[str, float | None]:
    """Student's interval of a mean difference."""
    from scipy.stats import t

    if name == "overlap" or len(gap) < 2:
        return {"low": None, "high": None}
    half = float(t.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap)))
    return {"low": float(gap.mean()) - half, "high": float(gap.mean()) + half}


def by_source(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Source -> the mean of each measure over both sides."""
    frame = pd.DataFrame(lines)
    names = [name for name in MEASURES if name in frame]
    return {
        str(source): {"critiques": float(len(own)), **{name: _mean(own[name].astype(float)) for name in names}}
        for source, own in frame.groupby("source", sort=True)
    }


def people_by_side(said: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What people say on either side: share of recovered sides, substance, share preferred; and how many answers."""
    if not said:
        return []
    frame = pd.DataFrame(said)
    found = []
    for side, own in frame.groupby("side", sort=True):
        shares = {name: _mean(own[name].astype(float)) for name in ("recovered", "unclear", "substance", "preferred")}
        found.append({"side": str(side), "answers": len(own), **shares})
    return found


def with_people(lines: Sequence[Mapping[str, Any]], said: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Spearman's correlation of each measure with the substance that people see, over critiques."""
    if not said:
        return {}
    people = pd.DataFrame(said).groupby(["row_id", "side"])["substance"].mean().reset_index()
    both = pd.DataFrame(lines).merge(people, on=["row_id", "side"])
    return {name: spearman(both[name], both["substance"]) for name in MEASURES if name in both}


def gains_of(run: Run, config: AuditConfig) -> dict[str, float]:
    """Source -> what training on it gained: of the config, or of an experiment of this run; empty where there is none.

    Raises:
        UserError: the record is not one of ours.
    """
    if config.gains:
        return dict(config.gains)
    folder = record.folder_of(run, config.gains_from)
    if not storage.exists(folder / record.RECORD):
        return {}
    found: dict[str, list[float]] = {}
    for figure in record.read(folder).figures:
        if config.gains_named in figure.name and figure.of and figure.value is not None:
            found.setdefault(figure.of, []).append(figure.value)
    return {source: float(np.mean(values)) for source, values in found.items()}


def with_gain(
    sources: Mapping[str, Mapping[str, float | None]], gains: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Spearman's correlation of each measure with the gain, over sources; empty where fewer than four have both."""
    both = sorted(set(sources) & set(gains))
    if len(both) < LEAST_SOURCES:
        return {}
    gain = pd.Series([gains[name] for name in both])
    return {name: spearman(pd.Series([sources[one].get(name) for one in both]), gain) for name in MEASURES}


def spearman(one: pd.Series, other: pd.Series) -> dict[str, Any]:
    """Rank correlation with its p-value, by permutation where there are few values; None where nothing varies."""
    from scipy.stats import permutation_test, spearmanr

    values = pd.DataFrame({"x": one.astype(float), "y": other.astype(float)}).dropna()
    x, y = values["x"].to_numpy(), values["y"].to_numpy()
    if len(values) < LEAST_SOURCES or len(np.unique(x)) < 2 or len(np.unique(y)) < 2:
        return {"rho": None, "p": None, "n": len(values)}
    found = spearmanr(x, y)
    p = float(found.pvalue)
    if len(values) < 30:
        drawn = permutation_test(
            (x,), lambda mine: spearmanr(mine, y).statistic, permutation_type="pairings", n_resamples=2000,
            rng=np.random.default_rng(0),
        )  # fmt: skip
        p = float(drawn.pvalue)
    return {"rho": float(found.statistic), "p": p, "n": len(values)}
