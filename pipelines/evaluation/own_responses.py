"""Self-preference: does a judge favour what it wrote itself? For benchmarks that name who wrote each response.

`lines` is a table with one line per judgment of one benchmark (`read_judgments`); `generators` has a name for each
response in the order shown, or None.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

from pipelines.evaluation import intervals, metrics

Entry = dict[str, Any]
NO_GENERATORS = "the benchmark's rows do not name who wrote the responses"
NONE_OWN = "no judgment with a response of the judge's own on one side"
NO_SCORES = "none of the responses that were scored is the judge's own, or all are"


def known_as(*names: str) -> set[str]:
    """What a judge may be called where responses are signed: its names, and the last part of a hub id."""
    return {part.casefold() for name in names for part in (name, name.rstrip("/").rsplit("/", 1)[-1])}


def choices(lines: pd.DataFrame, names: Collection[str], confidence: float, draws: int, seed: int) -> Entry:
    """How much more often a judge of pairs chooses its own response than that is right.

    Args:
        lines: judgments of pairs.
        names: what the judge is called there (`known_as`).
        confidence: of the interval.
        draws: of the bootstrap over groups.
        seed: of the bootstrap.

    Returns:
        `available`; if so `n`, judgments with the judge's own response on one side, a gold verdict and a verdict that
        choose, `chosen` and `right`, the shares in which that response is chosen and right, and `difference`; if
        not, `why`.
    """
    if not lines["generators"].notna().any():
        return {"available": False, "why": NO_GENERATORS}
    known = lines[lines["generators"].notna()]
    own = _own(known, names).map(lambda mine: [letter for letter, is_mine in zip("AB", mine, strict=True) if is_mine])
    choice = known["predicted"].isin(("A", "B")) & (known["outcome"] == "ok") & known["gold"].isin(("A", "B"))
    rows = known.assign(own=own.str[0])[(own.str.len() == 1) & choice]
    if rows.empty:
        return {"available": False, "why": NONE_OWN}
    chosen, right = rows["predicted"] == rows["own"], rows["gold"] == rows["own"]
    entry: Entry = {"available": True, "n": len(rows), "chosen": float(chosen.mean()), "right": float(right.mean())}
    gap = chosen.astype(float) - right.astype(float)
    _, (low, high) = intervals.clustered(
        lambda: intervals.bootstrap_mean(gap, rows["group_id"], draws, seed), rows["group_id"], confidence
    )
    return entry | {"difference": {"value": float(gap.mean()), "ci_low": low, "ci_high": high}}


def scores(lines: pd.DataFrame, names: Collection[str], confidence: float, draws: int, seed: int) -> Entry:
    """How much more a judge's scores exceed the gold ones on its own responses than on those of others.

    Args:
        lines: judgments of an absolute benchmark.
        names: what the judge is called there (`known_as`).
        confidence: of the interval.
        draws: of the bootstrap over groups.
        seed: of the bootstrap.

    Returns:
        `available`; if so `n` and `others`, scores read of its own responses and of those of others, `own_excess` and
        `others_excess`, the mean of score minus gold, and `difference`; if not, `why`.
    """
    if not lines["generators"].notna().any():
        return {"available": False, "why": NO_GENERATORS}
    # In the order of `metrics.scores`.
    signed = lines.set_index("row_id").sort_index()
    table = metrics.scores(lines)
    rows = table[table["read"] & signed["generators"].notna()]
    own = _own(signed.loc[rows.index], names).map(any).to_numpy(dtype=bool)
    if not own.any() or own.all():
        return {"available": False, "why": NO_SCORES}
    excess = (rows["score"] - rows["gold"]).to_numpy()
    means = float(excess[own].mean()), float(excess[~own].mean())
    entry: Entry = {"available": True, "n": int(own.sum()), "others": int((~own).sum())}
    entry |= dict(zip(("own_excess", "others_excess"), means, strict=True))

    def draw() -> intervals.Floats:
        columns = np.column_stack([excess * own, own, excess * ~own, ~own])
        sums = intervals.resample(columns, rows["group_id"], draws, seed)
        whole = sums[(sums[:, 1] > 0) & (sums[:, 3] > 0)]  # a resample without one of the two has no difference
        values: intervals.Floats = whole[:, 0] / whole[:, 1] - whole[:, 2] / whole[:, 3]
        return values

    _, (low, high) = intervals.clustered(draw, rows["group_id"], confidence)
    return entry | {"difference": {"value": means[0] - means[1], "ci_low": low, "ci_high": high}}


def _own(lines: pd.DataFrame, names: Collection[str]) -> pd.Series:
    """For each line, whether each response is the judge's own."""
    return lines["generators"].map(lambda signed: [(name or "").casefold() in names for name in signed])
