"""The rejected judgment of each row, and the random order of its responses (§2.2)."""

from __future__ import annotations

from typing import Any

from pipelines.core.determinism import choose, unit
from pipelines.core.errors import RowFailure
from pipelines.core.records import CONTRASTED, Row, filtered
from pipelines.core.stage import Stage
from pipelines.judging.tasks import TASKS


class Contrast(Stage):
    """Adds `swapped` and `rejected_verdict`; both depend on the seed and the row's id alone.

    The responses of a pair change places in half of the rows, and the verdict with them. A row for which the rules
    leave no verdict to reject, such as the middle of a scale of three, is filtered.
    """

    name = "contrast"
    reads = ("row_id", "task", "responses", "allowed", "verdict")
    adds = tuple(CONTRASTED)

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def depends(self) -> dict[str, Any]:
        return {"seed": self.seed}

    def apply(self, row: Row) -> None:
        task = TASKS[row["task"]]
        if problem := task.problem_of_verdicts(row["allowed"]):
            # A verdict that does not name a response by position could not change places with it.
            raise RowFailure("verdicts_do_not_suit_the_task", problem)
        if row["verdict"] not in row["allowed"]:
            raise RowFailure("verdict_not_allowed", row["verdict"])
        row["swapped"] = task.ordered and unit(self.seed, "swap", row["row_id"]) < 0.5
        if row["swapped"]:
            row["responses"] = row["responses"][::-1]
            row["verdict"] = task.opposite(row["verdict"])
        options = task.rejectable(row["verdict"], row["allowed"])
        if options:
            row["rejected_verdict"] = choose(options, self.seed, "reject", row["row_id"])
        else:
            row["status"] = filtered("no_contrast")
