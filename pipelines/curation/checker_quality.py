"""How good the consistency checker is, and what it says once its own errors are taken out."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipelines.core import sql
from pipelines.core.storage import Place
from pipelines.judging.checker_rates import Checker


def checker_quality(rows: Place, seed: int) -> dict[str, Any]:
    """The checker's error rates and, per source, how many critiques contradict their verdict (`checker_rates`).

    Args:
        rows: folder of the checked rows.
        seed: of the draws.

    Returns:
        `negatives`, `positives` (n, flagged, rate, interval), `tells_apart`, and `sources`: source -> side ->
        n, flagged, rate, corrected, interval.
    """
    counts = _counts(rows)
    negatives, positives = (
        (sum(own[name][0] for own in counts.values()), sum(own[name][1] for own in counts.values()))
        for name in ("negative", "positive")
    )
    checker = Checker(negatives, positives, np.random.default_rng(seed))
    sources = {
        source: {side: checker.corrected(*own[side]) for side in ("chosen", "rejected")}
        for source, own in sorted(counts.items())
    }
    return {**checker.describe(), "sources": sources}


def _counts(rows: Place) -> dict[str, dict[str, tuple[int, int]]]:
    """Source -> what was checked -> how many, and how many of them the checker flagged (memory: the sources)."""
    flags = {
        "chosen": "not chosen_consistent",
        "rejected": "not rejected_consistent",
        "negative": "probe_negative_flagged",
        "positive": "probe_positive_flagged",
    }
    wanted = ", ".join(f"count({flag}), coalesce(count_if({flag}), 0)" for flag in flags.values())
    with sql.connect(rows=rows) as connection:
        found = connection.execute(f"select source, {wanted} from rows group by source").fetchall()
    return {source: dict(zip(flags, zip(n[::2], n[1::2], strict=True), strict=True)) for source, *n in found}
