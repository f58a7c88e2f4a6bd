"""What rank 0 counts of a training: by the steps of its log."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.core import job_metrics, metrics
from pipelines.training.metrics import Step

GAUGES = {
    "pairs_per_second": job_metrics.PAIRS_PER_SECOND,
    "tflops": job_metrics.TFLOPS,
    "mfu": job_metrics.MFU,
    "loss": job_metrics.LOSS,
}


def trained(step: Step) -> None:
    """A step of all workers together; what its log does not know is no gauge."""
    meter = metrics.here()
    meter.add(job_metrics.PAIRS, step["pairs"])
    meter.add(job_metrics.TRAINED_TOKENS, step["tokens"])
    for name, gauge in GAUGES.items():
        if name in step:
            meter.set(gauge, step[name])


def trained_again(undone: Sequence[Step]) -> None:
    """Steps after the checkpoint that a training goes on from, as far as the log has them."""
    metrics.here().add(job_metrics.REPEATED_PAIRS, sum(step.get("pairs", 0) for step in undone))


def held_out(accuracy: float) -> None:
    """The held-out pairs have been judged."""
    metrics.here().set(job_metrics.HELDOUT, accuracy)
