"""One model on one benchmark: the headline with its confidence interval, and the figures around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipelines.core.errors import UserError
from pipelines.engines.llm.ask import TOO_LONG
from pipelines.evaluation.asking.benchmark_rows import GIVEN, SWAPPED
from pipelines.evaluation.asking.judgments import FAILED, SKIPPED
from pipelines.evaluation.benchmarks.registry import Benchmark
from pipelines.evaluation.config import EvaluationConfig
from pipelines.evaluation.scoring import baselines, calibration, correlations, orders, sections, verdict_tables
from pipelines.evaluation.scoring.agreement import Agreement, agreement
from pipelines.evaluation.scoring.entries import BenchmarkEntry, ScoreEntry, Subset, VerdictEntry
from pipelines.evaluation.scoring.intervals import Measured
from pipelines.evaluation.scoring.metrics.registry import metrics, official_metrics
from pipelines.judging.tasks import TASKS


@dataclass(frozen=True)
class Scored:
    """One model on one benchmark.

    Attributes:
        entry: the figures.
        table: one line per example (per item, where several rows are one): group_id and points, or group_id, score
            and gold.
        measured: the headline with what its interval needs.
    """

    entry: BenchmarkEntry
    table: pd.DataFrame
    measured: Measured


def score(frame: pd.DataFrame, benchmark: Benchmark, config: EvaluationConfig, seed: int) -> Scored:
    """Score one model's judgments of one benchmark.

    Args:
        frame: the model's judgments (`read_judgments`), of this benchmark or of several.
        benchmark: the protocol.
        config: confidence and sample.
        seed: of the `random` protocol.

    Raises:
        UserError: there are no judgments of the benchmark.
    """
    lines = frame[frame["benchmark"] == benchmark.name]
    judged = lines[lines["outcome"] != SKIPPED]
    if judged.empty:
        raise UserError(f"no judgments of benchmark '{benchmark.name}'", fix="run the benchmark job on it")
    scored = TASKS[benchmark.task].scored
    rows = verdict_tables.scores(judged) if scored else verdict_tables.pairs(judged)
    table = verdict_tables.best_of(rows) if benchmark.best_of else rows
    measured = measure(table, benchmark)
    low, high = measured.interval(config.confidence)
    counts = _counts(lines, judged, rows, benchmark)
    reasons = partial_reasons(counts, benchmark, config.sample_of(benchmark.name))
    shared = {
        "n": len(table),
        "metric": benchmark.metric,
        "value": measured.value,
        "ci_low": low,
        "ci_high": high,
        "no_interval": measured.why,
        "baseline": baselines.always_the_same(judged, benchmark, headline),
        "chance": baselines.at_random(judged, benchmark, headline),
        "parse_rate": verdict_tables.parse_rate(judged),
        "partial": bool(reasons),
        "partial_reasons": reasons,
        "task": benchmark.task,
        "template": str(judged["template"].iloc[0]),
        **counts,
        "subsets": _subsets(table, benchmark),
        **({"to_confirm": unsure} if (unsure := doubt(benchmark, counts["found"])) else {}),
    }
    entry: BenchmarkEntry
    if scored:
        entry = ScoreEntry(**shared, **_of_scores(table, judged, benchmark))
    else:
        entry = VerdictEntry(**shared, **_of_verdicts(table, rows, judged, benchmark, config, seed))
    return Scored(entry, table, measured)


def headline(table: pd.DataFrame, benchmark: Benchmark) -> float | None:
    """The benchmark's metric over the examples of a table."""
    return sections.headline(table, benchmark) if benchmark.sections else metrics()[benchmark.metric].value(table)


def measure(table: pd.DataFrame, benchmark: Benchmark) -> Measured:
    """The headline with its interval."""
    return sections.measure(table, benchmark) if benchmark.sections else metrics()[benchmark.metric].measure(table)


def partial_reasons(counts: Mapping[str, int], benchmark: Benchmark, sample: int | None) -> list[str]:
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


def _counts(lines: pd.DataFrame, judged: pd.DataFrame, rows: pd.DataFrame, benchmark: Benchmark) -> dict[str, int]:
    """Rows found, asked about, excluded by the benchmark's rule, unreadable; judgments made, failed and too long."""
    skipped = lines[lines["outcome"] == SKIPPED]
    excluded = skipped["status"].isin([f"filtered:{reason}" for reason in benchmark.where])
    return {
        "expected_n": benchmark.expected_n,
        "found": int(lines["found"].max()),
        "asked": len(rows) + len(skipped),
        "excluded": int(excluded.sum()),
        "unreadable": int((~excluded).sum()),
        "judgments": len(judged),
        "failed": int((judged["outcome"] == FAILED).sum()),
        "too_long": int((judged["outcome"] == TOO_LONG).sum()),
        "groups": int(rows["group_id"].nunique()),
    }


def _of_verdicts(
    table: pd.DataFrame,
    rows: pd.DataFrame,
    judged: pd.DataFrame,
    benchmark: Benchmark,
    config: EvaluationConfig,
    seed: int,
) -> dict[str, Any]:
    """What a VerdictEntry adds, over all judgments (both orders of a pair)."""
    found: dict[str, Any] = {
        "accuracy": float(table["points"].mean()),
        "value_parsed_only": _parsed_only(judged, benchmark),
        **_without_accuracy(agreement(judged["gold"].tolist(), verdict_tables.labels(judged).tolist())),
        "calibration": calibration.calibration(judged),
    }
    if f"right_{SWAPPED}" in rows or (judged["order"] != GIVEN).any():
        found["orders"] = orders.order_protocols(table, seed, benchmark.best_by_subset)
        found["position_consistency"], found["position_consistency_n"] = orders.position_consistency(rows)
    if benchmark.sections:
        found["sections"] = sections.entries(table, benchmark, config.confidence)
    if benchmark.authors:
        found["authors"] = official_metrics()[benchmark.authors].figures(rows, benchmark, seed)
    if benchmark.balanced:
        balanced = verdict_tables.balanced(rows, f"balanced:{benchmark.name}")
        found["balanced"] = Subset(n=len(balanced), **dict(_agreement_of(balanced)))
    return found


def _parsed_only(judged: pd.DataFrame, benchmark: Benchmark) -> float | None:
    """The headline over the verdicts that were read; None for items of several rows, of which some may be unread."""
    read = judged[judged["outcome"] == "ok"]
    return None if benchmark.best_of or read.empty else headline(verdict_tables.single(read), benchmark)


def _of_scores(table: pd.DataFrame, judged: pd.DataFrame, benchmark: Benchmark) -> dict[str, Any]:
    """What a ScoreEntry adds."""
    score, gold, read = table["score"], table["gold"], table[table["read"]]
    pearson = correlations.pearson(score, gold)
    notes = []
    if pearson is None:
        notes.append("the gold scores do not vary, or there is only one: Pearson is not defined")
    elif score.nunique() == 1:
        notes.append("the judge's scores do not vary: Pearson is not defined and counted as 0")
    return {
        "pearson": pearson,
        "value_parsed_only": None if read.empty else headline(read, benchmark),
        "spearman": correlations.spearman(score, gold),
        "kendall": correlations.kendall(score, gold),
        "quadratic_kappa": correlations.quadratic_kappa(table),
        "expected_pearson": correlations.pearson(calibration.expected_scores(judged, table), gold),
        **dict(agreement(table["nearest"].tolist(), table["verdict"].tolist())),
        "notes": notes,
    }


def _without_accuracy(found: Agreement) -> dict[str, float | None]:
    # Of judgments; the entry's own is of rows.
    return found.model_dump(exclude={"accuracy"})


def _agreement_of(rows: pd.DataFrame) -> Agreement:
    """Agreement with the labels of a classification benchmark."""
    return agreement(rows["gold"].tolist(), rows[f"verdict_{GIVEN}"].tolist())


def _subsets(table: pd.DataFrame, benchmark: Benchmark) -> dict[str, Subset]:
    """Each part of the benchmark that has a name, scored by the metric; with agreement where verdicts are labels."""
    value, labels = metrics()[benchmark.metric].value, TASKS[benchmark.task].labels
    return {
        str(name): Subset(n=len(part), value=value(part), **(dict(_agreement_of(part)) if labels else {}))
        for name, part in table.dropna(subset=["subset"]).groupby("subset", sort=True)
    }


def doubt(benchmark: Benchmark, found: int) -> str:
    """What nobody has checked against the real data; the hub's form counts where it is the only or the whole one."""
    read = benchmark.hub and (not benchmark.files or found == benchmark.whole_n)
    hub = benchmark.hub.to_confirm if benchmark.hub and read else ""
    return "; ".join(text for text in (benchmark.to_confirm, hub) if text)
