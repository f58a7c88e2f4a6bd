"""What models have done for the rows of a batch, counted once a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pipelines.core import job_metrics, metrics
from pipelines.core.counts import stage_of
from pipelines.core.records import Row, kind


def answers(stage: str, prompt: int, cached: int, output: int, seconds: Iterable[float]) -> None:
    """A model has answered some prompts.

    Args:
        stage: that asked.
        prompt, cached, output: tokens; those cached are part of the prompts.
        seconds: of each answer.
    """
    meter, of = metrics.here(), stage_of(stage)
    for which, count in (("prompt", prompt), ("cached", cached), ("output", output)):
        meter.add(job_metrics.TOKENS, count, stage=of, kind=which)
    for took in seconds:
        meter.observe(job_metrics.ANSWER_SECONDS, took, stage=of)


def rewards(rows: Sequence[Row]) -> None:
    """A reward model has scored rows, or could not."""
    meter, found = metrics.here(), [score for row in rows for score in row.get("rewards") or ()]
    failed = sum(kind(row["status"]) != "ok" for row in rows)
    meter.add(job_metrics.SCORES, len(rows) - failed, outcome="scored")
    meter.add(job_metrics.SCORES, failed, outcome="failed")
    if found:
        meter.set(job_metrics.REWARD, sum(found) / len(found))


def checks(critique: str, found: Iterable[bool | None]) -> None:
    """A checker has read critiques; None is one that it was not asked about."""
    tally = Counter(found)
    for consistent in (True, False):
        metrics.here().add(job_metrics.CHECKS, tally[consistent], critique=critique, consistent=str(consistent).lower())


def judgments(rows: Sequence[Row]) -> None:
    """A judge has answered about rows; one without an answer has no parse status."""
    for status, count in Counter(row.get("parse_status") for row in rows).items():
        if status is not None:
            metrics.here().add(job_metrics.JUDGMENTS, count, parse_status=status)
