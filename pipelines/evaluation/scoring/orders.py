"""Pairs judged in both orders: accuracy under each protocol, and how often the two verdicts agree."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipelines.core.determinism import unit
from pipelines.evaluation.asking.benchmark_rows import GIVEN, SWAPPED
from pipelines.evaluation.scoring.verdict_tables import UNPARSED
from pipelines.judging.tasks import PAIRWISE

PROTOCOLS = {
    "order1": "accuracy in the order of the file",
    "order2": "accuracy with the responses swapped",
    "mean": "mean of the two orders (the headline)",
    "best": "the better of the two orders, as SFR-Judge reports",
    "both": "share of pairs right in both orders, as Auto-J counts",
    "random": "one order per pair, by hash, as in RewardBench (an unread verdict counts 0.5 there, 0 here)",
}


def order_protocols(table: pd.DataFrame, seed: int) -> dict[str, float]:
    """Accuracy under each of PROTOCOLS; without swapped judgments order1 and mean alone.

    Args:
        table: of `verdict_tables.pairs`.
        seed: of the order drawn for each pair.
    """
    first = table[f"right_{GIVEN}"]
    if f"right_{SWAPPED}" not in table:
        return {"order1": float(first.mean()), "mean": float(first.mean())}
    second = table[f"right_{SWAPPED}"]
    one, two = float(first.mean()), float(second.mean())
    return {
        "order1": one,
        "order2": two,
        "mean": (one + two) / 2,
        "best": max(one, two),
        "both": float((first & second).mean()),
        "random": float(np.where(drawn_first(table, seed), first, second).mean()),
    }


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
