"""How good the consistency checker is, and what it says once its own errors are taken out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.curation.duplicates import sql_files

DRAWS = 20_000
CONFIDENCE = 0.95
Interval = tuple[float, float]


def statement(task: str, verdict: str) -> str:
    """A critique that supports a verdict and nothing else, by construction."""
    if task == "absolute":
        return f"The response deserves a score of {verdict}, no more and no less."
    if task == "classification":
        return f"The answer to the question is {verdict}."
    if verdict == "Tie":
        return "Both responses are equally good; neither is better."
    return f"Response {verdict} is clearly the better of the two."


def checker_quality(rows: Path, seed: int) -> dict[str, Any]:
    """The checker's error rates and, per source, how many critiques contradict their verdict.

    Two constructed sets measure the checker: real chosen critiques beside the other verdict, which it should turn
    away (the share it does is the TPR), and plain statements of a verdict beside that verdict, which it should
    accept (the share it turns away is the FPR). A statement is easier than a real critique, so the FPR is a lower
    bound; a chosen critique may itself be off, so the TPR is one as well.

    The corrected share is Rogan and Gladen's (r − FPR) / (TPR − FPR), Am. J. Epidemiol. 107 (1978), kept within 0
    and 1; its interval comes from draws of the three rates' posteriors under Jeffreys' prior. It is null where the
    checker does not tell the two sets apart: where TPR − FPR may be 0.

    Args:
        rows: folder of the checked rows.
        seed: of the draws.

    Returns:
        `negatives`, `positives` (n, flagged, rate, interval), `tells_apart`, and `sources`: source -> side ->
        n, flagged, rate, corrected, interval.
    """
    counts = _counts(rows)
    generator = np.random.default_rng(seed)
    negatives, positives = (
        _rate(sum(own[name][0] for own in counts.values()), sum(own[name][1] for own in counts.values()), generator)
        for name in ("negative", "positive")
    )
    gap = negatives.pop("draws") - positives["draws"]
    false_alarms = positives.pop("draws")
    apart = bool(negatives["n"] and positives["n"] and np.quantile(gap, (1 - CONFIDENCE) / 2) > 0)
    sources: dict[str, Any] = {}
    for source, own in sorted(counts.items()):
        sources[source] = {}
        for side in ("chosen", "rejected"):
            found = _rate(*own[side], generator)
            drawn = np.clip((found.pop("draws") - false_alarms) / np.where(gap == 0, np.nan, gap), 0, 1)
            known = apart and found["n"]
            estimate = (found["rate"] - positives["rate"]) / (negatives["rate"] - positives["rate"]) if known else None
            found["corrected"] = None if estimate is None else float(np.clip(estimate, 0, 1))
            found["corrected_interval"] = _interval(drawn) if known else None
            sources[source][side] = found
    return {"negatives": negatives, "positives": positives, "tells_apart": apart, "sources": sources}


def _counts(rows: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Source -> what was checked -> how many, and how many of them the checker flagged (memory: the sources)."""
    import duckdb

    flags = {
        "chosen": "not chosen_consistent",
        "rejected": "not rejected_consistent",
        "negative": "probe_negative_flagged",
        "positive": "probe_positive_flagged",
    }
    wanted = ", ".join(f"count({flag}), coalesce(count_if({flag}), 0)" for flag in flags.values())
    with duckdb.connect() as connection:
        found = connection.execute(
            f"select source, {wanted} from read_parquet({sql_files(rows)}) group by source"
        ).fetchall()
    return {source: dict(zip(flags, zip(n[::2], n[1::2], strict=True), strict=True)) for source, *n in found}


def _rate(n: int, flagged: int, generator: np.random.Generator) -> dict[str, Any]:
    draws = generator.beta(flagged + 0.5, n - flagged + 0.5, DRAWS)
    rate = flagged / n if n else None
    return {"n": n, "flagged": flagged, "rate": rate, "interval": _interval(draws) if n else None, "draws": draws}


def _interval(draws: np.ndarray[Any, Any]) -> Interval:
    low, high = np.nanquantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
