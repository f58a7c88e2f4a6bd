"""Tables of verdicts, one line per example, from judgments. A verdict that could not be read is wrong.

Throughout, `judgments` is a table with one line per judgment and the columns row_id, group_id, subset, order, gold,
allowed, predicted and outcome; predicted counts only where outcome is `ok`.
"""

from __future__ import annotations

import pandas as pd

from pipelines.core.determinism import unit
from pipelines.evaluation.asking.benchmark_rows import GIVEN, SWAPPED

UNPARSED = "(unparsed)"


def parse_rate(judgments: pd.DataFrame) -> float | None:
    """Share of judgments whose verdict could be read."""
    return float((judgments["outcome"] == "ok").mean()) if len(judgments) else None


def labels(judgments: pd.DataFrame) -> pd.Series:
    """The verdicts, with a label of its own for those that could not be read."""
    return judgments["predicted"].where(judgments["outcome"] == "ok", UNPARSED)


def right(judgments: pd.DataFrame) -> pd.Series:
    """Whether each verdict is the right one."""
    return labels(judgments) == judgments["gold"]


def pairs(judgments: pd.DataFrame) -> pd.DataFrame:
    """One line per example of a pairwise or classification benchmark, indexed by row_id.

    Columns: group_id, subset, gold (in the letters of the first order judged), points (share of the orders judged
    right) and, per order, right_<order> and verdict_<order> in the letters of that order. A judgment that is missing
    counts as wrong.
    """
    lines = judgments.assign(right=right(judgments), verdict=labels(judgments)).sort_values("order", kind="stable")
    table = lines.groupby("row_id", sort=True)[["group_id", "subset", "gold"]].first()
    orders = [order for order in (GIVEN, SWAPPED) if (lines["order"] == order).any()]
    for order in orders:
        one = lines[lines["order"] == order].set_index("row_id")
        table[f"right_{order}"] = one["right"].reindex(table.index, fill_value=False)
        table[f"verdict_{order}"] = one["verdict"].reindex(table.index, fill_value=UNPARSED)
    table["points"] = table[[f"right_{order}" for order in orders]].astype(float).mean(axis=1)
    return table


def single(judgments: pd.DataFrame) -> pd.DataFrame:
    """As `pairs`, each judgment as a line of its own, as if its order were the only one."""
    said = {f"right_{GIVEN}": right(judgments), f"verdict_{GIVEN}": labels(judgments)}
    return judgments.assign(points=right(judgments).astype(float), **said)


def best_of(table: pd.DataFrame) -> pd.DataFrame:
    """Best of several: one line per instruction and subset, right in an order where all its pairs are.

    Args:
        table: of `pairs`, the right answer against each of the others.
    """
    orders = [name for order in (GIVEN, SWAPPED) if (name := f"right_{order}") in table]
    named = table.assign(row_id=table.index)
    grouped = named.groupby(["group_id", "subset"], sort=False, dropna=False)
    best = grouped.agg(row_id=("row_id", "first"), **{name: (name, "all") for name in orders}).reset_index()
    best["points"] = best[orders].astype(float).mean(axis=1)
    return best.set_index("row_id").sort_index()


def balanced(table: pd.DataFrame, purpose: str) -> pd.DataFrame:
    """As many rows of each class as the smallest has: those of smallest hash, the same for every model and seed.

    Args:
        table: of `pairs`.
        purpose: of the hash.
    """
    smallest = int(table["gold"].value_counts().min())
    rank = pd.Series([unit(0, purpose, str(key)) for key in table.index], index=table.index)
    kept = table.assign(rank=rank).sort_values("rank").groupby("gold", sort=True).head(smallest)
    return table.loc[sorted(kept.index)]


def scores(judgments: pd.DataFrame) -> pd.DataFrame:
    """One line per example of an absolute benchmark, indexed by row_id.

    Columns: group_id, subset, gold (float), score (the verdict as a number; the mean of the judge's read ones where it
    could not be read), read, nearest (the allowed verdict closest to gold, the lower of two) and verdict.

    The mean adds nothing to a covariance. The middle of the scale would: a judge that always says 5, and is unread
    where responses are bad, would seem to tell good from bad.
    """
    table = judgments.set_index("row_id").sort_index()
    read = table["outcome"] == "ok"
    said = pd.to_numeric(table["predicted"].where(read)).astype(float)
    gold = table["gold"].astype(float)
    nearest = [
        min(scale, key=lambda verdict: (abs(float(verdict) - value), float(verdict)))
        for scale, value in zip(table["allowed"], gold, strict=True)
    ]
    return pd.DataFrame(
        {
            "group_id": table["group_id"],
            "subset": table["subset"],
            "gold": gold,
            "score": said.fillna(said.mean() if read.any() else 0.0),
            "read": read,
            "nearest": nearest,
            "verdict": labels(table),
        }
    )
