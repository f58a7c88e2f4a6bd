"""Write deploy/grafana/openselene-jobs.json: a Grafana board of the jobs, from the list of their metrics.

python -m scripts.grafana_jobs            # write the file
python -m scripts.grafana_jobs --check    # write nothing, exit 1 when the file is out of date
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from pipelines.core import job_metrics
from pipelines.core.metrics import Metric
from scripts.generated_file import generate
from scripts.grafana import Board, Panel, last, ours, panel_of, quantiles, rate, share

OUTPUT = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "openselene-jobs.json"


def selector(metric: Metric, **labels: str) -> str:
    """Of a metric, where labels have these values."""
    return ours(metric.name).replace("{", "{" + "".join(f'{label}="{value}", ' for label, value in labels.items()))


def now(metric: Metric, title: str, unit: str = "short", legend: str = "now", by: str = "", how: str = "max") -> Panel:
    """A gauge; one process sets it, or each worker its own, whose mean or most is meant."""
    grouped = f" by ({by})" if by else ""
    return Panel(title, f"{metric.help}.", {f"{how}{grouped} ({last(selector(metric))})": legend}, unit)


def progress() -> list[Panel]:
    """How far the steps are."""
    done, whole = (f"max by (step) ({last(selector(job_metrics.STEP_ROWS, which=which))})" for which in ("done", "all"))
    return [
        Panel("Progress", f"{job_metrics.STEP_ROWS.help}.", {f"{done} / {whole}": "{{step}}"}, "percentunit"),
        now(job_metrics.ETA, "Time left", "s", "{{step}}", "step"),
        panel_of(job_metrics.ROWS),
        Panel(
            "Errors",
            "Share of the rows written that are errors.",
            {share(selector(job_metrics.ROWS, status="error"), selector(job_metrics.ROWS)): "error"},
            "percentunit",
        ),
    ]


def models() -> list[Panel]:
    """What generator, checker and judge do."""
    cached, prompt = (selector(job_metrics.TOKENS, kind=kind) for kind in ("cached", "prompt"))
    seconds = f"{job_metrics.ANSWER_SECONDS.name}_bucket"
    judge = ours(seconds).replace("{", '{stage="judge", ')
    return [
        panel_of(job_metrics.TOKENS),
        Panel(
            "Cache hits",
            "Share of the prompts' tokens that the engine had computed before.",
            {share(cached, prompt): "cached"},
            "percentunit",
        ),
        Panel("Time of an answer", f"{job_metrics.ANSWER_SECONDS.help}.", quantiles(ours(seconds)), "s"),
        Panel("Time of a judgment", "The same, of the judge alone.", quantiles(judge), "s"),
        panel_of(job_metrics.SCORES),
        replace(now(job_metrics.REWARD, "Mean reward", how="avg"), signed=True),
    ]


def verdicts() -> list[Panel]:
    """What checker and judge find."""
    unread = selector(job_metrics.JUDGMENTS).replace("{", '{parse_status!~"ok|completed", ')
    return [
        panel_of(job_metrics.CHECKS),
        Panel(
            "Inconsistent critiques",
            "Share of the checked critiques that do not agree with their verdict.",
            {
                share(
                    selector(job_metrics.CHECKS, critique=critique, consistent="false"),
                    selector(job_metrics.CHECKS, critique=critique),
                ): critique
                for critique in job_metrics.CHECKS.labels["critique"]
            },
            "percentunit",
        ),
        panel_of(job_metrics.JUDGMENTS),
        Panel(
            "Judgments without a verdict",
            "Share of the judgments in which none could be read.",
            {share(unread, selector(job_metrics.JUDGMENTS)): "unread"},
            "percentunit",
        ),
    ]


def training() -> list[Panel]:
    """How the trainer does."""
    return [
        now(job_metrics.PAIRS_PER_SECOND, "Pairs a second"),
        panel_of(job_metrics.PAIRS),
        panel_of(job_metrics.TRAINED_TOKENS),
        now(job_metrics.TFLOPS, "TFLOPS"),
        now(job_metrics.MFU, "MFU", "percentunit"),
        now(job_metrics.LOSS, "Loss"),
        now(job_metrics.HELDOUT, "Held-out accuracy", "percentunit"),
    ]


def waste() -> list[Panel]:
    """What is computed and does not count."""
    worked = {rate(selector(job_metrics.COMPUTED), "stage"): "{{stage}} worked on"}
    written = {rate(selector(job_metrics.ROWS), "step"): "{{step}} written"}
    return [
        panel_of(job_metrics.REPEATED),
        panel_of(job_metrics.REPEATED_PAIRS),
        panel_of(job_metrics.GAVE_UP),
        Panel(
            "Rows worked on and rows written",
            "Per second. Rows worked on and not written are computed again after a kill.",
            worked | written,
            "ops",
        ),
    ]


def board() -> Board:
    """The board of the jobs."""
    rows = [
        ("Progress", progress()),
        ("Models", models()),
        ("Verdicts", verdicts()),
        ("Training", training()),
        ("Waste", waste()),
    ]
    return Board(
        "openselene jobs",
        "scripts/grafana_jobs.py from pipelines/core/job_metrics.py",
        ["openselene", "ray"],
        rows,
        job_metrics.ROWS,
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return generate("Write the Grafana board of the jobs.", board().text, OUTPUT, arguments)


if __name__ == "__main__":
    sys.exit(main())
