"""One model on one benchmark: the headline with its interval, and what to read beside it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pandas as pd

from pipelines.core.config import EvaluationConfig
from pipelines.core.determinism import integer
from pipelines.core.errors import UserError
from pipelines.evaluation import authors, calibration, intervals, metrics, sections
from pipelines.evaluation.examples import GIVEN, SWAPPED
from pipelines.evaluation.judgments import FAILED, UNASKED
from pipelines.evaluation.registry import Benchmark

Entry = dict[str, Any]


@dataclass(frozen=True)
class Scored:
    """One model on one benchmark.

    Attributes:
        entry: what results.json says.
        table: one line per example (per item, where several rows are one): group_id and points, or group_id, score
            and gold.
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
    rows = metrics.scores(judged) if absolute else metrics.pairs(judged)
    table = sections.items(rows) if benchmark.best_of else rows
    value, special = (
        _absolute(table, judged, config) if absolute else _closed(table, rows, judged, benchmark, config, seed)
    )
    draws, (low, high) = intervals.clustered(
        partial(draw, table, benchmark, config.bootstrap, seed), table["group_id"], config.confidence
    )
    counts = _counts(lines, judged, rows, benchmark)
    reasons = partial_reasons(counts, benchmark, config.sample_of(benchmark.name))
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
        **({"to_confirm": doubt} if (doubt := _doubt(benchmark, counts["found"])) else {}),
    }
    return Scored(entry, table, draws)


def draw(table: pd.DataFrame, benchmark: Benchmark, draws: int, seed: int) -> intervals.Floats:
    """Bootstrap values of the headline, shape (B,); models scored on the same rows share their resamples."""
    key = integer(seed, "bootstrap", benchmark.name)
    if benchmark.metric == "pearson":
        return intervals.bootstrap_pearson(table["score"], table["gold"], table["group_id"], draws, key)
    return sections.draw(table, benchmark, draws, key)


def headline(table: pd.DataFrame, benchmark: Benchmark) -> float | None:
    """The benchmark's metric over the examples of a table."""
    if benchmark.metric == "pearson":
        return metrics.pearson(table["score"], table["gold"])
    return sections.headline(table, benchmark)


def partial_reasons(counts: dict[str, int], benchmark: Benchmark, sample: int | None) -> list[str]:
    """Why a figure is not the whole benchmark's: empty if it is."""
    found, asked = counts["found"], counts["asked"]
    whole = found == benchmark.whole_n  # the published rows, where the files named hold a part of them
    reasons = [benchmark.reason] if benchmark.partial and not whole else []
    if found != benchmark.expected_n and not whole:
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
    table: pd.DataFrame,
    rows: pd.DataFrame,
    judged: pd.DataFrame,
    benchmark: Benchmark,
    config: EvaluationConfig,
    seed: int,
) -> tuple[float | None, Entry]:
    """Pairwise and classification: accuracy and its company, over all judgments (both orders of a pair)."""
    beside = metrics.agreement(judged["gold"].tolist(), metrics.labels(judged).tolist())
    low, high = intervals.wilson(float(table["points"].sum()), len(table), config.confidence)
    special: Entry = {
        # The plain mean of the rows: the headline, unless that is a mean of sections.
        "accuracy": float(table["points"].mean()),
        "value_parsed_only": _parsed_only(judged, benchmark),
        **{name: number for name, number in beside.items() if name != "accuracy"},
        "interval_wilson": [low, high],
        "calibration": calibration.calibration(judged),
    }
    if f"right_{SWAPPED}" in rows or (judged["order"] != GIVEN).any():
        special["orders"] = metrics.order_protocols(table, seed)
        special |= metrics.position_consistency(rows)
    if benchmark.sections:
        key = integer(seed, "bootstrap", benchmark.name)
        special["sections"] = sections.entries(table, benchmark, config.bootstrap, key, config.confidence)
    if benchmark.authors:
        special["authors"] = authors.figures(rows, benchmark, seed)
    if benchmark.balanced:
        special["balanced"] = _agreement(metrics.balanced(rows, f"balanced:{benchmark.name}"))
    return sections.headline(table, benchmark), special


def _parsed_only(judged: pd.DataFrame, benchmark: Benchmark) -> float | None:
    """The headline over the verdicts that were read; None for items of several rows, of which some may be unread."""
    read = judged[judged["outcome"] == "ok"]
    if benchmark.best_of or read.empty:
        return None
    return sections.headline(read.assign(points=metrics.right(read).astype(float)), benchmark)


def _agreement(rows: pd.DataFrame) -> Entry:
    """n and every measure of agreement with the labels of a classification benchmark."""
    return {"n": len(rows), **metrics.agreement(rows["gold"].tolist(), rows[f"verdict_{GIVEN}"].tolist())}


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
    """n and the metric of each part of the benchmark that has a name; with labels, what to read beside it."""
    parts: dict[str, Entry] = {}
    for name, part in table.dropna(subset=["subset"]).groupby("subset", sort=True):
        absolute = benchmark.metric == "pearson"
        value = metrics.pearson(part["score"], part["gold"]) if absolute else float(part["points"].mean())
        parts[str(name)] = {"n": len(part), "value": value}
        if benchmark.task == "classification":
            parts[str(name)] |= _agreement(part)
    return parts


def _doubt(benchmark: Benchmark, found: int) -> str:
    """What nobody has checked against the real data; the hub's form counts where it is the only or the whole one."""
    read = benchmark.hub and (not benchmark.files or found == benchmark.whole_n)
    hub = benchmark.hub.to_confirm if benchmark.hub and read else ""
    return "; ".join(text for text in (benchmark.to_confirm, hub) if text)
