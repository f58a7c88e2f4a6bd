"""Steps of many rows at once: in turn for each row, and a row's failure is its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from pipelines.core import job_metrics
from pipelines.core.errors import RowFailure
from pipelines.core.records import Row
from pipelines.core.stage import apply_stage, check_columns, fuse, to_table
from pipelines.engines.llm.ask import Answer, Ask
from pipelines.engines.llm.steps import PromptStep, StepActor, StepStage
from tests.counted import Counted

SCHEMA = pa.schema([("row_id", pa.string()), ("n", pa.int64()), ("status", pa.string()), ("other", pa.string())])


class Say(PromptStep):
    """Keeps an answer, and leaves out a row by its number."""

    reads = ("n",)

    def __init__(self, name: str, leave: int, error: Exception | None = None) -> None:
        self.name, self.leave, self.error = name, leave, error
        self.adds = (pa.field(name, pa.string()),)

    async def run(self, row: Row, ask: Ask) -> None:
        if row["n"] == self.leave and self.error:
            raise self.error
        row[self.name] = (await ask(f"{self.name} {row['n']}", max_tokens=1)).text
        if row["n"] == self.leave:
            row["status"] = "filtered:enough"


class Echo(StepStage):
    """Answers with the prompt, and takes note of the order."""

    def __init__(self, *steps: PromptStep) -> None:
        super().__init__("echo", steps)
        self.asked: list[str] = []

    def connect(self) -> Ask:
        async def ask(prompt: str, **_: Any) -> Answer:
            self.asked.append(prompt)
            await asyncio.sleep(0)
            return Answer(prompt, 0, 0, 0.0)

        return ask  # type: ignore[return-value]


def rows(count: int) -> list[Row]:
    return [{"row_id": str(n), "n": n, "status": "ok", "other": "x"} for n in range(count)]


def test_rows_ask_at_once_and_each_goes_through_its_steps_in_turn() -> None:
    made, stage = rows(3), Echo(Say("first", 1), Say("second", 2, RowFailure("unlucky")))
    apply_stage(stage, made)
    assert stage.asked == ["first 0", "first 1", "first 2", "second 0"]
    assert [row["first"] for row in made] == ["first 0", "first 1", "first 2"]
    assert [row["status"] for row in made] == ["ok", "filtered:enough", "error:second:unlucky"]
    assert [row.get("second") for row in made] == ["second 0", None, None]


def test_any_other_exception_is_let_through() -> None:
    with pytest.raises(KeyError):
        apply_stage(Echo(Say("first", 1, KeyError("a bug"))), rows(3))


def test_an_actor_gives_the_whole_batch_back_with_columns_it_does_not_read() -> None:
    actor = StepActor(Echo(Say("first", 1)), check_columns(SCHEMA, [Echo(Say("first", 1))]))

    async def collect() -> list[pa.Table]:
        return [table async for table in actor(to_table(rows(2), SCHEMA))]

    (table,) = asyncio.run(collect())
    assert table.column_names == [*SCHEMA.names, "first"]
    assert table["other"].to_pylist() == ["x", "x"] and table["first"].to_pylist() == ["first 0", "first 1"]


def test_it_runs_in_a_pool_of_its_own_and_reads_only_what_its_steps_do_not_add() -> None:
    second = Say("second", -1)
    second.reads = ("first", "n", "row_id")
    stage = Echo(Say("first", -1), second)
    assert (stage.reads, [field.name for field in stage.adds]) == (("n", "row_id"), ["first", "second"])
    assert fuse([stage, stage]) == [stage, stage]


def test_its_result_depends_on_what_its_steps_depend_on() -> None:
    class Settled(Say):
        def depends(self) -> dict[str, Any]:
            return {"leave": self.leave}

    assert Echo(Settled("first", 1), Say("second", 2)).depends() == {"steps": {"first": {"leave": 1}, "second": {}}}


def test_tokens_and_times_are_counted_once_a_batch_those_of_failed_rows_too(counted: Counted) -> None:
    class Costs(Echo):
        def connect(self) -> Ask:
            async def ask(prompt: str, **_: Any) -> Answer:
                return Answer(prompt, 10, 3, 0.5, cached_tokens=4)

            return ask  # type: ignore[return-value]

    stage = Costs(Say("first", 1), Say("second", 2, RowFailure("unlucky")))
    stage.name = "judge"
    apply_stage(stage, rows(3))
    tokens = {kind: counted.of(job_metrics.TOKENS, stage="judge", kind=kind) for kind in ("prompt", "cached", "output")}
    assert tokens == {"prompt": 40, "cached": 16, "output": 12}  # 3 answers of the first step, 1 of the second
    assert counted.values(job_metrics.ANSWER_SECONDS, stage="judge") == [0.5] * 4
    assert counted.calls == 3 + 4


def test_each_step_counts_the_rows_of_a_batch(counted: Counted) -> None:
    class Seen(Say):
        def count(self, rows: Sequence[Row]) -> None:
            seen.append([row.get(self.name) for row in rows])

    seen: list[list[Any]] = []
    apply_stage(Echo(Seen("first", 1), Seen("second", 9)), rows(2))
    assert seen == [["first 0", "first 1"], ["second 0", None]]
