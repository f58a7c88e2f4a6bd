"""Do a judge's critiques support its verdicts? A prompted checker on its judgments (§2.3 reports about 0.1% of 3k)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core import step, storage
from pipelines.core.determinism import choose, digest, unit
from pipelines.core.errors import UserError
from pipelines.core.records import EXAMPLE, OK, TEXT, Row
from pipelines.core.run import Run
from pipelines.core.segment import ROWS, Rows, Segment
from pipelines.core.storage import Place
from pipelines.engines import counts
from pipelines.engines.llm.ask import Ask
from pipelines.engines.llm.steps import PromptStep
from pipelines.engines.llm.vllm_stage import PromptStage
from pipelines.evaluation.asking.judgments import JUDGMENT
from pipelines.evaluation.config import CritiqueCheckConfig
from pipelines.judging.checker_rates import Checker
from pipelines.judging.consistency import Mode, question
from pipelines.judging.parse import READ
from pipelines.judging.tasks import TASKS
from pipelines.judging.templates import READS, identity

# A judgment as the checker reads it.
SAID = pa.schema(
    [
        *EXAMPLE,
        pa.field("judgment_id", TEXT),
        pa.field("benchmark", TEXT),
        pa.field("predicted", TEXT),
        pa.field("critique", TEXT),
    ]
)
CHECKED = (
    pa.field("consistent", pa.bool_()),
    # Of a share of the rows: what the checker says of pairs that are inconsistent, and consistent, by construction.
    pa.field("probe_negative_flagged", pa.bool_()),
    pa.field("probe_positive_flagged", pa.bool_()),
    pa.field("check_tokens", pa.int32()),  # read and written by the engine for this row
)


class NoCritiques(UserError):
    """A judge wrote no critique, or none with a readable verdict."""


class CritiqueCheck(PromptStep):
    """Ask whether the critique of a judgment supports its verdict, and test the checker on the way.

    Args:
        mode: of the question (`judging/consistency.py`).
        seed: of the probes.
        probe_share: share of the judgments, by hash, that also test the checker.
    """

    name = "critique-check"
    reads = (*READS, "judgment_id", "predicted", "critique")
    adds = CHECKED

    def __init__(self, mode: Mode, seed: int, probe_share: float = 1.0) -> None:
        self.mode, self.seed, self.probe_share = mode, seed, probe_share

    def depends(self) -> dict[str, Any]:
        settings = {"mode": self.mode, "seed": self.seed, "probe_share": self.probe_share}
        return {**settings, "template": identity(f"check_{self.mode}")}

    async def run(self, row: Row, ask: Ask) -> None:
        row["check_tokens"] = 0
        key, verdict, task = row["judgment_id"], row["predicted"], TASKS[row["task"]]
        row["consistent"] = await self._agrees(row, row["critique"], verdict, ask)
        if unit(self.seed, "critique check probe", key) >= self.probe_share:
            return
        # On a scale of three, no score is two away from the middle: such a row tests acceptance alone.
        if others := task.rejectable(verdict, row["allowed"]):
            other = choose(others, self.seed, "critique check other verdict", key)
            row["probe_negative_flagged"] = not await self._agrees(row, row["critique"], other, ask)
        row["probe_positive_flagged"] = not await self._agrees(row, task.statement(verdict), verdict, ask)

    def count(self, rows: Sequence[Row]) -> None:
        counts.checks("judge", (row.get("consistent") for row in rows))

    async def _agrees(self, row: Row, critique: str, verdict: str, ask: Ask) -> bool:
        asked = question(self.mode, row, critique, verdict)
        answer = await ask(asked.prompt, max_tokens=asked.max_tokens, choices=asked.choices)
        row["check_tokens"] += answer.prompt_tokens + answer.output_tokens
        return answer.text.strip() == asked.agrees


def write_critiques(run: Run, config: CritiqueCheckConfig, judge: str, judgments: Place) -> Rows:
    """Write the judgments whose critiques are checked: of those with a verdict and a critique, `config.rows` by hash.

    Args:
        run: whose `work` folder receives them.
        config: how many.
        judge: its name in this run.
        judgments: its file of `write_judgments`.

    Raises:
        NoCritiques: no judgment has one.
        UserError: the folder holds those of other judgments.
    """
    said = pc.field("critique").is_valid() & (pc.field("critique") != "")
    wanted = (pc.field("status") == OK) & pc.field("parse_status").isin(READ) & said
    ids = storage.read_table(judgments, ["judgment_id"], wanted, JUDGMENT)["judgment_id"].to_pylist()
    if not ids:
        raise NoCritiques(
            "no judgment has a critique to check", where=str(judgments), fix="judge with evaluation.format=cot"
        )
    kept = sorted(ids, key=lambda key: (unit(run.seed, "critique check", key), key))[: config.rows]
    table = storage.read_table(judgments, SAID.names, pc.field("judgment_id").isin(kept), JUDGMENT).cast(SAID)
    table = table.sort_by("judgment_id")

    def write(folder: Place) -> None:
        storage.write_table(storage.fresh(folder / ROWS) / "0.parquet", table)

    # The texts too: judgments of the same ids may be those of another model.
    said_now = table.select(["judgment_id", "predicted", "critique"]).to_pylist()
    folder = run.work / f"critiques-{judge}"
    judged = (step.result_of(run.work / f"judge-{judge}") or {}).get("fingerprint")
    depends = {"judgments": digest(said_now), "judge": judged, "rows": config.rows, "seed": run.seed}
    return Rows(folder / ROWS, step.once(folder, depends, write)["fingerprint"])


def check_segment(run: Run, config: CritiqueCheckConfig, judge: str, rows_per_block: int) -> Segment:
    """The segment in which the checker reads one judge's critiques: the rows of `write_critiques`."""
    return Segment(
        name=f"check-{judge}",
        stages=[PromptStage("check", config.engine, [CritiqueCheck(config.mode, run.seed, config.probe_share)])],
        id_column="judgment_id",
        rows_per_block=rows_per_block,
        max_error_share=run.max_error_share,
        token_columns=["check_tokens"],
    )


def critique_consistency(rows: Place, seed: int) -> dict[str, Any]:
    """What the checker says of one judge's critiques, raw and corrected for the checker's own errors.

    Args:
        rows: folder of the checked rows.
        seed: of the draws behind the intervals.

    Returns:
        `negatives` and `positives` (n, flagged, rate, interval) and `tells_apart` of the checker; `all` and, by name,
        `benchmarks` (n, flagged, rate, interval, corrected, corrected_interval) of the critiques; `failed`, judgments
        that the checker could not answer about.
    """
    frame = storage.read_table(rows, ["benchmark", "status", *(column.name for column in CHECKED[:3])]).to_pandas()
    answered = frame[(frame["status"] == OK) & frame["consistent"].notna()]
    negatives, positives = (
        (int(answered[column].notna().sum()), int((answered[column] == True).sum()))  # noqa: E712 - null is neither
        for column in ("probe_negative_flagged", "probe_positive_flagged")
    )
    checker = Checker(negatives, positives, np.random.default_rng(seed))
    flagged = answered["consistent"] == False  # noqa: E712 - null is neither
    return {
        **checker.describe(),
        "all": checker.corrected(len(answered), int(flagged.sum())),
        "benchmarks": {
            str(name): checker.corrected(len(part), int(part.sum()))
            for name, part in flagged.groupby(answered["benchmark"], sort=True)
        },
        "failed": len(frame) - len(answered),
    }
