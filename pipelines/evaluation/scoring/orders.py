"""Pairs judged in both orders: accuracy under each protocol, and how often the two verdicts agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.core.determinism import unit
from pipelines.evaluation.asking.benchmark_rows import GIVEN, SWAPPED
from pipelines.evaluation.scoring.verdict_tables import UNPARSED
from pipelines.judging.tasks import PAIRWISE

RANDOM_FROM = 200  # pairs: with fewer, chance moves one draw by more than 0.03
PROTOCOLS = {
    "order1": "accuracy in the order of the file",
    "order2": "accuracy with the responses swapped",
    "mean": "mean of the two orders (the headline)",
    "best": "the better of the two orders, as SFR-Judge reports; of HHH and EvalBiasBench in each part, as there",
    "both": "share of pairs right in both orders, as Auto-J counts",
    "random": "one order per pair, by hash, as in RewardBench (an unread verdict counts 0.5 there, 0 here); one draw, "
    f"so it may lie outside the two orders: not shown below {RANDOM_FROM} pairs",
}


def order_protocols(table: pd.DataFrame, seed: int, by_subset: bool = False) -> dict[str, float]:
    """Accuracy under each of PROTOCOLS; without swapped judgments order1 and mean alone.

    Args:
        table: of `verdict_tables.pairs`.
        seed: of the order drawn for each pair.
        by_subset: take the better order in each part, then weight the parts by their rows.
    """
    first = table[f"right_{GIVEN}"]
    if f"right_{SWAPPED}" not in table:
        return {"order1": float(first.mean()), "mean": float(first.mean())}
    second = table[f"right_{SWAPPED}"]
    one, two = float(first.mean()), float(second.mean())
    found = {
        "order1": one,
        "order2": two,
        "mean": (one + two) / 2,
        "best": _best_by_subset(table, first, second) if by_subset else max(one, two),
        "both": float((first & second).mean()),
    }
    if len(table) >= RANDOM_FROM:
        found["random"] = float(np.where(drawn_first(table, seed), first, second).mean())
    return found


def _best_by_subset(table: pd.DataFrame, first: pd.Series, second: pd.Series) -> float:
    right = pd.DataFrame({"first": first, "second": second}).groupby(table["subset"], dropna=False).sum()
    return float(right.max(axis=1).sum() / len(table))


def drawn_first(table: pd.DataFrame, seed: int) -> NDArray[np.bool_]:
    """Whether the order drawn for each pair, by hash, is that of the file; shape (N,)."""
    return np.array([unit(seed, "random_order", str(key)) < 0.5 for key in table.index], dtype=bool)


def position_consistency(table: pd.DataFrame) -> tuple[float | None, int]:
    """Share of the pairs with both verdicts read in which they name the same response, and how many were read twice."""
    if f"verdict_{SWAPPED}" not in table:
        return None, 0
    first, second = table[f"verdict_{GIVEN}"], table[f"verdict_{SWAPPED}"]
    read = (first != UNPARSED) & (second != UNPARSED)
    same = first[read].map(PAIRWISE.opposite) == second[read]
    return float(same.mean()) if len(same) else None, int(read.sum())
