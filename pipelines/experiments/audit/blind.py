"""The blind checker: which verdict does a critique argue for, if it is not told?"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from pipelines.core.records import TEXT, Row
from pipelines.core.run import Run
from pipelines.core.segment import Segment
from pipelines.engines.llm.ask import Ask
from pipelines.engines.llm.steps import PromptStep
from pipelines.engines.llm.vllm_stage import PromptStage
from pipelines.experiments.audit.config import AuditConfig
from pipelines.experiments.audit.sample import SIDES
from pipelines.judging.consistency import question
from pipelines.judging.templates import READS, identity


class ArguedSide(PromptStep):
    """Asks of each critique which of the allowed verdicts it supports; the verdicts are hidden."""

    name = "argued-side"
    reads = (*READS, "verdict", "rejected_verdict", "chosen_critique", "rejected_critique")
    adds = (pa.field("chosen_argued", TEXT), pa.field("rejected_argued", TEXT), pa.field("blind_tokens", pa.int64()))

    def depends(self) -> dict[str, Any]:
        return {"template": identity("check_blind")}

    async def run(self, row: Row, ask: Ask) -> None:
        row["blind_tokens"] = 0
        for side, verdict in zip(SIDES, (row["verdict"], row["rejected_verdict"]), strict=True):
            asked = question("blind", row, row[f"{side}_critique"] or "", verdict)
            answer = await ask(asked.prompt, max_tokens=asked.max_tokens, choices=asked.choices)
            row[f"{side}_argued"] = answer.text.strip()
            row["blind_tokens"] += answer.prompt_tokens + answer.output_tokens


def segment(run: Run, config: AuditConfig) -> Segment:
    """The segment in which the checker reads the sample."""
    return Segment(
        "blind",
        [PromptStage("blind", config.engine, [ArguedSide()])],
        rows_per_block=config.rows_per_block,
        max_error_share=run.max_error_share,
        token_columns=["blind_tokens"],
    )
