"""The sweep as one of the run's experiments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.core.run import Run
from pipelines.evaluation.report.plots import Point
from pipelines.experiments.records import record
from pipelines.experiments.records.forest import forest
from pipelines.experiments.records.record import Cost, Decision, Experiment, Figure
from pipelines.experiments.sweep.config import SweepConfig
from pipelines.training.config import TrainConfig
from pipelines.training.settings import HELDOUT_ACCURACY

NAME = "sweep"


def write(
    run: Run, train: TrainConfig, sweep: SweepConfig, table: Sequence[dict[str, Any]], best: str, near: Sequence[str]
) -> None:
    """Write the record of a sweep.

    Args:
        run: whose sweep it is.
        train: what all trainings have in common.
        sweep: the grid.
        table: a line a training, the best first.
        best: the training that was chosen.
        near: those that lie in its interval.
    """
    points = [Point(row[HELDOUT_ACCURACY], row["low"], row["high"]) for row in table]
    labels = [row["trial"] for row in table]
    others = f"; {len(near)} of {len(table) - 1} others lie in its interval" if len(table) > 1 else ""
    first = next(row for row in table if row["trial"] == best)
    interval = f"{first[HELDOUT_ACCURACY]:.3f} [{first['low']:.3f}, {first['high']:.3f}]"
    made = Experiment(
        name=NAME,
        title="Grid of the paper",
        question="Which learning rate, alpha and weight decay judge held-out pairs best (§2.4)?",
        rule="the training whose best checkpoint has the highest held-out accuracy; of equals the lowest NLL",
        settings={**sweep.model_dump(mode="json"), "model": train.model, "epochs": train.epochs, "beta": train.beta},
        seeds=[run.seed],
        figures=[
            Figure(
                name="held-out accuracy",
                of=row["trial"],
                value=row[HELDOUT_ACCURACY],
                ci_low=row["low"],
                ci_high=row["high"],
                n=row["judged"],
                note="" if row["whole"] else "stopped early",
            )
            for row in table
        ],
        decisions=[Decision(about="grid", verdict=best, why=f"held-out accuracy {interval}{others}")],
        cost=Cost(seconds=sum(row["seconds"] or 0 for row in table), trials=len(table)),
        notes=["One seed a training: the intervals count the held-out rows alone."],
        links={"sweep.png": "../../sweep/sweep.png"},
    )
    record.write(run, made, table, forest({"held-out accuracy": {"accuracy": points}}, labels, NAME, none=0.5))
