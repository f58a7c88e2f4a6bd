"""Self-preference: does a judge favour what it wrote itself? For benchmarks that name who wrote each response.

`lines` is a table with one line per judgment of one benchmark (`read_judgments`); `generators` has a name for each
response in the order shown, or None.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipelines.evaluation.scoring import intervals, verdict_tables
from pipelines.evaluation.scoring.figures import Estimate, Figures
from pipelines.evaluation.scoring.intervals import EXACT, Floats
from pipelines.evaluation.scoring.jackknife import of_jackknife
from pipelines.judging.tasks import PAIRWISE

NO_GENERATORS = "the benchmark's rows do not name who wrote the responses"
NONE_OWN = "no judgment with a response of the judge's own on one side"
NO_SCORES = "none of the responses that were scored is the judge's own, or all are"


class SelfPreference(Figures):
    """Whether a judge favours its own responses; see `self_preference.py`.

    Attributes:
        why: the reason where it is not `available`; nothing else is set then.
        n: pairs: judgments with a choice and one own response; scores: those of own responses, beside `others`.
        chosen: pairs: share in which the judge chooses its own response; `right`: in which that is right.
        own_over_better: pairs: share in which it chooses its own where the other is right; `other_over_better`: in
            which it chooses the other where its own is right.
        difference: pairs: of the last two; scores: of an own and another's response of the same gold score.
    """

    available: bool
    why: str | None = None
    n: int | None = None
    chosen: float | None = None
    right: float | None = None
    own_over_better: float | None = None
    other_over_better: float | None = None
    others: int | None = None
    difference: Estimate | None = None


def known_as(*names: str) -> set[str]:
    """What a judge may be called where responses are signed: its names, and the last part of a hub id."""
    return {part.casefold() for name in names for part in (name, name.rstrip("/").rsplit("/", 1)[-1])}


def choices(lines: pd.DataFrame, names: Collection[str], confidence: float) -> SelfPreference:
    """Whether a judge of pairs wrongly chooses its own response more often than it wrongly chooses another's.

    Chosen minus right would be the less, the more often its own is right; the two kinds of mistake are not bound so.

    Args:
        lines: judgments of pairs.
        names: what the judge is called there (`known_as`).
        confidence: of the interval.

    Returns:
        Over judgments with the judge's own response on one side in which both the gold verdict and the judge's choose
        one of the two.
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
    own, other = (
        intervals.of_mean(choice, rows["group_id"], part) for choice, part in ((chosen, ~right), (~chosen, right))
    )
    return SelfPreference(
        available=True,
        n=len(rows),
        chosen=float(chosen.mean()),
        right=float(right.mean()),
        own_over_better=own.value,
        other_over_better=other.value,
        difference=intervals.difference(own, other).estimate(confidence),
    )


def scores(lines: pd.DataFrame, names: Collection[str], confidence: float) -> SelfPreference:
    """How much higher a judge scores its own responses than those of others with the same gold score.

    The coefficient of `own` in a regression of score on gold and own, jackknifed over groups. The plain
    difference of score minus gold would blame a judge that compresses the scale for the quality of its own responses.

    Args:
        lines: judgments of an absolute benchmark.
        names: what the judge is called there (`known_as`).
        confidence: of the interval.
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
    score, gold = (rows[name].to_numpy(dtype=np.float64) for name in ("score", "gold"))
    preference = given_gold(score, gold, own, rows["group_id"])
    return SelfPreference(
        available=True, n=int(own.sum()), others=int((~own).sum()), difference=preference.estimate(confidence)
    )


def given_gold(score: Floats, gold: Floats, own: NDArray[np.bool_], groups: ArrayLike) -> intervals.Measured:
    """The coefficient of `own` beside gold; undefined where the data determine none. All of shape (N,)."""
    index = np.unique(np.asarray(groups), return_inverse=True)[1]
    x, y = gold - gold.mean(), score - score.mean()
    # Sums over the own and the other responses of each group; shape (5, G, 2).
    place, shape = 2 * index + own, (index.max() + 1, 2)
    columns = (np.ones_like(x), x, y, x * x, x * y)
    sums = np.array([np.bincount(place, column, shape[0] * 2).reshape(shape) for column in columns])
    whole = sums.sum(axis=1, keepdims=True)
    value = float(_gap(whole)[0])
    return of_jackknife(value if np.isfinite(value) else None, _gap(whole - sums))


def _gap(sums: Floats) -> Floats:
    """Mean score of the own responses minus the others', less what the gold scores explain; NaN if undetermined.

    The slope of score on gold is that within the own and within the other responses, as in a regression on both.
    """
    n, x, y, xx, xy = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        within = (xx - x * x / n).sum(axis=-1)
        slope = (xy - x * y / n).sum(axis=-1) / np.where(within > EXACT, within, np.nan)
        apart = y / n - slope[..., None] * x / n
    return np.asarray(apart[..., 1] - apart[..., 0])


def _own(lines: pd.DataFrame, names: Collection[str]) -> pd.Series:
    """For each line, whether each response is the judge's own."""
    return lines["generators"].map(lambda signed: [(name or "").casefold() in names for name in signed])
