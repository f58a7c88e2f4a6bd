"""Self-preference: does a judge favour what it wrote itself? For benchmarks that name who wrote each response.

`lines` is a table with one line per judgment of one benchmark (`read_judgments`); `generators` has a name for each
response in the order shown, or None.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from pipelines.evaluation.scoring import intervals, verdict_tables
from pipelines.evaluation.scoring.figures import Estimate, Figures
from pipelines.judging.tasks import PAIRWISE

NO_GENERATORS = "the benchmark's rows do not name who wrote the responses"
NONE_OWN = "no judgment with a response of the judge's own on one side"
NO_SCORES = "none of the responses that were scored is the judge's own, or all are"


class SelfPreference(Figures):
    """Whether a judge favours its own responses; see `self_preference.py`.

    Attributes:
        why: the reason where it is not `available`; nothing else is set then.
        chosen: pairs: share in which the judge chooses its own response; `right`: in which that is right.
        own_excess: scores: mean of score minus gold on its own responses; `others_excess`: on the `others`.
    """

    available: bool
    why: str | None = None
    n: int | None = None
    chosen: float | None = None
    right: float | None = None
    others: int | None = None
    own_excess: float | None = None
    others_excess: float | None = None
    difference: Estimate | None = None


def known_as(*names: str) -> set[str]:
    """What a judge may be called where responses are signed: its names, and the last part of a hub id."""
    return {part.casefold() for name in names for part in (name, name.rstrip("/").rsplit("/", 1)[-1])}


def choices(lines: pd.DataFrame, names: Collection[str], confidence: float, draws: int, seed: int) -> SelfPreference:
    """How much more often a judge of pairs chooses its own response than that is right.

    Args:
        lines: judgments of pairs.
        names: what the judge is called there (`known_as`).
        confidence: of the interval.
        draws: of the bootstrap over groups.
        seed: of the bootstrap.

    Returns:
        `n`: judgments with the judge's own response on one side in which both the gold verdict and the judge's choose
        one of the two; `chosen` and `right`: shares in which that is its own; `difference`: of the two shares.
    """
    if not lines["generators"].notna().any():
        return SelfPreference(available=False, why=NO_GENERATORS)
    known = lines[lines["generators"].notna()]
    letters = PAIRWISE.verdicts
    own = _own(known, names).map(
        lambda mine: [letter for letter, is_mine in zip(letters, mine, strict=True) if is_mine]
    )
    choice = known["predicted"].isin(letters) & (known["outcome"] == "ok") & known["gold"].isin(letters)
    rows = known.assign(own=own.str[0])[(own.str.len() == 1) & choice]
    if rows.empty:
        return SelfPreference(available=False, why=NONE_OWN)
    chosen, right = rows["predicted"] == rows["own"], rows["gold"] == rows["own"]
    gap = chosen.astype(float) - right.astype(float)
    _, (low, high) = intervals.clustered(
        lambda: intervals.bootstrap_mean(gap, rows["group_id"], draws, seed), rows["group_id"], confidence
    )
    return SelfPreference(
        available=True,
        n=len(rows),
        chosen=float(chosen.mean()),
        right=float(right.mean()),
        difference=Estimate(value=float(gap.mean()), ci_low=low, ci_high=high),
    )


def scores(lines: pd.DataFrame, names: Collection[str], confidence: float, draws: int, seed: int) -> SelfPreference:
    """How much more a judge's scores exceed the gold ones on its own responses than on those of others.

    Args:
        lines: judgments of an absolute benchmark.
        names: what the judge is called there (`known_as`).
        confidence: of the interval.
        draws: of the bootstrap over groups.
        seed: of the bootstrap.

    Returns:
        `n` and `others`: scores read of its own responses and of those of others; `own_excess` and `others_excess`:
        mean of score minus gold; `difference`: of the two means.
    """
    if not lines["generators"].notna().any():
        return SelfPreference(available=False, why=NO_GENERATORS)
    # In the order of `verdict_tables.scores`.
    signed = lines.set_index("row_id").sort_index()
    table = verdict_tables.scores(lines)
    rows = table[table["read"] & signed["generators"].notna()]
    own = _own(signed.loc[rows.index], names).map(any).to_numpy(dtype=bool)
    if not own.any() or own.all():
        return SelfPreference(available=False, why=NO_SCORES)
    excess = (rows["score"] - rows["gold"]).to_numpy()
    means = float(excess[own].mean()), float(excess[~own].mean())
    _, (low, high) = intervals.clustered(
        lambda: intervals.bootstrap_gap(excess, own, rows["group_id"], draws, seed), rows["group_id"], confidence
    )
    return SelfPreference(
        available=True,
        n=int(own.sum()),
        others=int((~own).sum()),
        own_excess=means[0],
        others_excess=means[1],
        difference=Estimate(value=means[0] - means[1], ci_low=low, ci_high=high),
    )


def _own(lines: pd.DataFrame, names: Collection[str]) -> pd.Series:
    """For each line, whether each response is the judge's own."""
    return lines["generators"].map(lambda signed: [(name or "").casefold() in names for name in signed])
