"""One model on one benchmark: the headline with its interval, and what to read beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from pipelines.core.config import EvaluationConfig
from pipelines.core.determinism import integer
from pipelines.core.errors import UserError
from pipelines.evaluation import calibration, intervals, metrics
from pipelines.evaluation.examples import GIVEN, SWAPPED
from pipelines.evaluation.judgments import FAILED, UNASKED
from pipelines.evaluation.registry import Benchmark

Entry = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """One model on one benchmark.

    Attributes:
        entry: what results.json says.
        table: one line per example: group_id and points, or group_id, score and gold.
        draws: bootstrap values of the headline, shape (B,); None where all rows are of one group.
    """

    entry: Entry
    table: pd.DataFrame
    draws: intervals.Floats | None = field(repr=False)


def score(frame: pd.DataFrame, benchmark: Benchmark, config: EvaluationConfig, seed: int) -> Scored:
    """Score one model's judgments of one benchmark.

    Args:
        frame: the model's judgments (`read_judgments`), of this benchmark or of several.
        benchmark: the protocol.
        config: bootstrap, confidence and sample.
        seed: of the bootstrap and of the `random` protocol.

    Raises:
        UserError: there are no judgments of the benchmark.
    """
    lines = frame[frame["benchmark"] == benchmark.name]
    judged = lines[lines["outcome"] != UNASKED]
    if judged.empty:
        raise UserError(f"no judgments of benchmark '{benchmark.name}'", fix="run the benchmark job on it")
    absolute = benchmark.task == "absolute"
    table = metrics.scores(judged) if absolute else metrics.pairs(judged)
    value, special = _absolute(table, judged, config) if absolute else _closed(table, judged, config, seed)
    draws, (low, high) = intervals.clustered(
        partial(draw, table, benchmark, config.bootstrap, seed), table["group_id"], config.confidence
    )
    counts = _counts(lines, judged, table, benchmark)
    reasons = partial_reasons(counts, benchmark, config.sample)
    entry: Entry = {
        "n": len(table),
        "metric": benchmark.metric,
        "value": value,
        "ci_low": low if value is not None else None,
        "ci_high": high if value is not None else None,
        "parse_rate": metrics.parse_rate(judged),
        "partial": bool(reasons),
        "partial_reasons": reasons,
        "task": benchmark.task,
        "template": str(judged["template"].iloc[0]),
        **counts,
        **special,
        "subsets": _subsets(table, benchmark),
    }
    return Scored(entry, table, draws)


def draw(table: pd.DataFrame, benchmark: Benchmark, draws: int, seed: int) -> intervals.Floats:
    """Bootstrap values of the headline, shape (B,); models scored on the same rows share their resamples."""
    key = integer(seed, "bootstrap", benchmark.name)
    if benchmark.metric == "pearson":
        return intervals.bootstrap_pearson(table["score"], table["gold"], table["group_id"], draws, key)
    return intervals.bootstrap_mean(table["points"], table["group_id"], draws, key)


def headline(table: pd.DataFrame, benchmark: Benchmark) -> float | None:
    """The benchmark's metric over the examples of a table."""
    if benchmark.metric == "pearson":
        return metrics.pearson(table["score"], table["gold"])
    return float(table["points"].mean())


def partial_reasons(counts: dict[str, int], benchmark: Benchmark, sample: int | None) -> list[str]:
    """Why a figure is not the whole benchmark's: empty if it is."""
    reasons = [benchmark.reason] if benchmark.partial else []
    found, asked = counts["found"], counts["asked"]
    if found != benchmark.expected_n:
        reasons.append(f"the files hold {found} rows, {benchmark.expected_n} were expected")
    if asked < found:
        if sample is not None and asked == sample:
            reasons.append(f"sample of {asked} of {found} rows")
        else:
            reasons.append(f"judgments of {asked} of {found} rows only")
    if counts["unreadable"]:
        reasons.append(f"{counts['unreadable']} rows could not be read")
    return reasons


def _counts(lines: pd.DataFrame, judged: pd.DataFrame, table: pd.DataFrame, benchmark: Benchmark) -> dict[str, int]:
    """Rows found, asked about, excluded by the benchmark's rule, unreadable; judgments made and failed."""
    unasked = lines[lines["outcome"] == UNASKED]
    excluded = unasked["status"].isin([f"filtered:{reason}" for reason in benchmark.where])
    return {
        "expected_n": benchmark.expected_n,
        "found": int(lines["found"].max()),
        "asked": len(table) + len(unasked),
        "excluded": int(excluded.sum()),
        "unreadable": int((~excluded).sum()),
        "judgments": len(judged),
        "failed": int((judged["outcome"] == FAILED).sum()),
        "groups": int(table["group_id"].nunique()),
    }


def _closed(
    table: pd.DataFrame, judged: pd.DataFrame, config: EvaluationConfig, seed: int
) -> tuple[float | None, Entry]:
    """Pairwise and classification: accuracy and its company, over all judgments (both orders of a pair)."""
    value = float(table["points"].mean())
    beside = metrics.agreement(judged["gold"].tolist(), metrics.labels(judged).tolist())
    read = judged[judged["outcome"] == "ok"]
    low, high = intervals.wilson(float(table["points"].sum()), len(table), config.confidence)
    special: Entry = {
        # The headline, so that a missing judgment weighs the same here and there.
        "accuracy": value,
        "value_parsed_only": float(metrics.right(read).mean()) if len(read) else None,
        **{name: number for name, number in beside.items() if name != "accuracy"},
        "interval_wilson": [low, high],
        "calibration": calibration.calibration(judged),
    }
    if f"right_{SWAPPED}" in table or (judged["order"] != GIVEN).any():
        special["orders"] = metrics.order_protocols(table, seed)
        special |= metrics.position_consistency(table)
    return value, special


def _absolute(table: pd.DataFrame, judged: pd.DataFrame, config: EvaluationConfig) -> tuple[float | None, Entry]:
    """Absolute scores: Pearson and its company; accuracy is against the allowed verdict nearest to gold."""
    value = metrics.pearson(table["score"], table["gold"])
    read = table[table["read"]]
    low, high = intervals.fisher_z(table["score"], table["gold"], config.confidence)
    notes = []
    if value is None:
        notes.append("the gold scores do not vary, or there is only one: Pearson is not defined")
    elif table["score"].nunique() == 1:
        notes.append("the judge's scores do not vary: Pearson is not defined and counted as 0")
    return value, {
        "pearson": value,
        "value_parsed_only": metrics.pearson(read["score"], read["gold"]),
        "spearman": metrics.spearman(table["score"], table["gold"]),
        "kendall": metrics.kendall(table["score"], table["gold"]),
        "quadratic_kappa": metrics.quadratic_kappa(table),
        "expected_pearson": metrics.pearson(calibration.expected_scores(judged, table), table["gold"]),
        **metrics.agreement(table["nearest"].tolist(), table["verdict"].tolist()),
        "interval_fisher_z": [low, high],
        "notes": notes,
    }


def _subsets(table: pd.DataFrame, benchmark: Benchmark) -> dict[str, Entry]:
    """n and the headline metric of each part of the benchmark that has a name."""
    return {
        str(name): {"n": len(part), "value": headline(part, benchmark)}
        for name, part in table.dropna(subset=["subset"]).groupby("subset", sort=True)
    }
