"""What the parts of a job count, each once a batch or once a block: names become bounded labels here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from pipelines.core import job_metrics, metrics
from pipelines.core.records import Row, kind


def step_of(name: str) -> str:
    """The label of a step: `judge` of `judge-base`. A user's own part of a name is none."""
    return name if name in job_metrics.STEPS else name.partition("-")[0]


def stage_of(name: str) -> str:
    """The label of a stage, by the same rule; one that needs no model is `light`."""
    short = name if name in job_metrics.STAGES else name.partition("-")[0]
    return short if short in job_metrics.STAGES else "light"


class Written:
    """Rows that a step writes, counted as they come, by what became of them.

    Args:
        step: its name.
        before: statuses of the rows that were there before, which count no more: an earlier run did.
    """

    def __init__(self, step: str, before: Mapping[str, int] | None = None) -> None:
        self.step, self.counted = step_of(step), by_kind(before or {})

    def now(self, statuses: Mapping[str, int], total: int | None = None) -> None:
        """Count what has come.

        Args:
            statuses: of all rows that are written.
            total: rows of the step, for its progress.
        """
        found, meter = by_kind(statuses), metrics.here()
        for status, count in found.items():
            meter.add(job_metrics.ROWS, count - self.counted[status], step=self.step, status=status)
        if total is not None:
            progress(self.step, sum(found.values()), total)
        self.counted |= found  # the larger of both: rows that are written again were counted


def by_kind(statuses: Mapping[str, int]) -> Counter[str]:
    """Rows by `ok`, `filtered` and `error`."""
    found: Counter[str] = Counter()
    for status, count in statuses.items():
        found[kind(status)] += count
    return found


def count_entry(step: str, entry: Mapping[str, Mapping[str, int]]) -> None:
    """Count the rows of a step that writes them all at once, by its ledger entry."""
    Written(step).now(entry_statuses(entry))


def entry_statuses(entry: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Rows by status, of all sources of a ledger entry."""
    return {status: sum(source[status] for source in entry.values()) for status in job_metrics.STATUSES}


def progress(step: str, done: int, total: int) -> None:
    """How far a step is: in rows, training in optimizer steps."""
    meter, of = metrics.here(), step_of(step)
    meter.set(job_metrics.STEP_ROWS, total, step=of, which="all")
    meter.set(job_metrics.STEP_ROWS, done, step=of, which="done")


def time_left(step: str, seconds: float) -> None:
    """How long a step still takes, at its present speed."""
    metrics.here().set(job_metrics.ETA, seconds, step=step_of(step))


def gave_up(step: str, workers: int) -> None:
    """Workers of a step failed for good."""
    metrics.here().add(job_metrics.GAVE_UP, workers, step=step_of(step))


def computed(stage: str, rows: Sequence[Row]) -> None:
    """A worker is done with some rows."""
    metrics.here().add(job_metrics.COMPUTED, len(rows), stage=stage_of(stage))


def repeated(stage: str, rows: Sequence[Row]) -> None:
    """A worker begins rows again under which a process has ended."""
    metrics.here().add(job_metrics.REPEATED, len(rows), stage=stage_of(stage))
