"""The critique consistency check (§2.3): does a critique support its verdict?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.core.determinism import unit
from pipelines.core.records import CHECKED, Row, filtered
from pipelines.curation.config import CritiqueConfig
from pipelines.curation.critique import Critique, spend
from pipelines.engines import counts
from pipelines.engines.llm.ask import Ask
from pipelines.engines.llm.steps import PromptStep
from pipelines.judging.consistency import Question, question
from pipelines.judging.tasks import TASKS
from pipelines.judging.templates import READS, identity


class ConsistencyCheck(PromptStep):
    """Check both critiques; an inconsistent chosen one is rewritten, up to `attempts` in all, and then filtered.

    Rows with an inconsistent rejected critique are filtered if the config says so.

    `prompted` asks whether critique and verdict agree; `blind` hides the verdict and asks which one the critique
    supports. The answer is one of a closed set, so nothing has to be parsed. A share of the rows also tests the
    checker (`checker_quality.py`).
    """

    name = "consistency"
    reads = (*READS, "row_id", "verdict", "rejected_verdict", "chosen_critique", "rejected_critique")
    adds = tuple(CHECKED)

    def __init__(self, config: CritiqueConfig, seed: int) -> None:
        self.config, self.seed, self.critique = config, seed, Critique(config, seed)
        self.seeded = config.attempts > 1  # it writes again, at retry_temperature

    def depends(self) -> dict[str, Any]:
        return self.critique.depends() | {"templates": identity(f"check_{self.config.check_mode}")}

    async def run(self, row: Row, ask: Ask) -> None:
        for side, verdict in (("chosen", row["verdict"]), ("rejected", row["rejected_verdict"])):
            row[f"{side}_consistent"] = await self._agrees(row, row[f"{side}_critique"], verdict, ask)
        row["attempts"] = 1
        while not row["chosen_consistent"] and row["attempts"] < self.config.attempts:
            row["attempts"] += 1
            again = await self.critique.write(row, "chosen", row["verdict"], ask, row["attempts"])
            if again.critique and await self._agrees(row, again.critique, row["verdict"], ask):
                row["chosen_critique"], row["chosen_thoughts"] = again.critique, again.thoughts
                row["chosen_consistent"] = True
        if unit(self.seed, "checker probe", row["row_id"]) < self.config.probe_share:
            wrong, right = (
                (row["chosen_critique"], row["rejected_verdict"]),
                TASKS[row["task"]].statement(row["verdict"]),
            )
            row["probe_negative_flagged"] = not await self._agrees(row, *wrong, ask)
            row["probe_positive_flagged"] = not await self._agrees(row, right, row["verdict"], ask)
        if self.config.drop_inconsistent_chosen and not row["chosen_consistent"]:
            row["status"] = filtered("inconsistent_chosen")
        elif self.config.drop_inconsistent_rejected and not row["rejected_consistent"]:
            row["status"] = filtered("inconsistent_rejected")

    def count(self, rows: Sequence[Row]) -> None:
        for side in ("chosen", "rejected"):
            counts.checks(side, (row.get(f"{side}_consistent") for row in rows))

    def question(self, row: Row, critique: str, verdict: str) -> Question:
        """What the checker is asked."""
        return question(self.config.check_mode, row, critique, verdict)

    async def _agrees(self, row: Row, critique: str, verdict: str, ask: Ask) -> bool:
        asked = self.question(row, critique, verdict)
        answer = await ask(asked.prompt, max_tokens=asked.max_tokens, choices=asked.choices)
        spend(row, answer)
        return answer.text.strip() == asked.agrees
