"""Trials that end without a judge: their weights are no longer numbers.

That is a result too. The same trial would diverge again, so its marker says so in place of verdicts, and nothing trains
it a second time. Whether it ends the job is for the experiment to say: a leaderboard has a line for it.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.core import step
from pipelines.core.errors import UserError
from pipelines.experiments.trials.trial import DIVERGED, Trial
from pipelines.experiments.trials.worker import Ground


def refuse_diverged(ground: Ground, trials: Sequence[Trial]) -> None:
    """End a job that needs the verdicts of all its trials, where one is known to have none.

    Raises:
        UserError: naming the trial's sources, changes and seed.
    """
    for one in trials:
        result = step.finished(ground.place(one), ground.depends(one))
        if result and result.get(DIVERGED):
            rate = dict(one.changes).get("learning_rate", ground.config.learning_rate)
            raise UserError(
                f"diverged: {result[DIVERGED]}",
                where=told(ground, one),
                fix=f"lower trials.train.learning_rate, which is {rate:g}",
            )


def told(ground: Ground, trial: Trial) -> str:
    """A trial in words: what it trains on, with which settings and seed."""
    taken = {*trial.rows}
    sources = sorted({str(row["source"]) for row in ground.pairs if row["row_id"] in taken})
    changes = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in trial.changes]
    return ", ".join([f"trial on {len(taken)} pairs of {', '.join(sources)}", *changes, f"seed {trial.seed}"])
