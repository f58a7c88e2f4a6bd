"""The plan of the batch judge, its settings, and who judges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import load_config
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.engines.config import EngineConfig
from pipelines.engines.endpoint_config import EndpointConfig
from pipelines.engines.llm.constrained import ConstrainedJudge
from pipelines.engines.llm.endpoint_stage import EndpointStage
from pipelines.engines.llm.fits import FitsJudge
from pipelines.engines.llm.judge import Judge
from pipelines.engines.llm.steps import StepStage
from pipelines.engines.llm.vllm_stage import PromptStage
from pipelines.judge_job.both_orders import BothOrders
from pipelines.judge_job.config import JudgeConfig
from pipelines.judge_job.job import describe, judge_segment

from .conftest import LABEL, PAIR, SCORE, lines

ENDPOINT = {"endpoint": "http://127.0.0.1:1/v1", "model": "m"}


def step_of(config: JudgeConfig) -> tuple[StepStage, BothOrders]:
    stage = judge_segment(Run(Path("out")), config).stages[-1]
    assert isinstance(stage, StepStage) and isinstance(stage.steps[0], BothOrders)
    return stage, stage.steps[0]


def test_the_plan_shows_three_rows_of_each_kind_of_file_and_why_others_fail(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines([*[PAIR] * 5, {**PAIR, "task": "?"}]))
    (tmp_path / "b.jsonl").write_text(lines([SCORE]))
    (tmp_path / "c.json").write_text(json.dumps([LABEL]))
    said = describe(Run(tmp_path / "out"), JudgeConfig(input=str(tmp_path), both_orders=True))
    assert said[0] == "judge 3 files (2 jsonl, 1 json)"
    assert said[1].startswith("  json: ") and said[1].endswith("c.json")
    assert said[2] == "    first 1 rows: 1 can be used"
    assert said[4].startswith("  jsonl: ") and said[4].endswith("a.jsonl and 1 more")
    assert said[5] == "    first 7 rows: 6 can be used"
    assert said[6].startswith("    1 times error:request:unknown_task:'?'")
    shown = "    one of A, B | instruction: Name a colour. | response: Red. | response: Seven."
    assert said[7:10] == [shown] * 3
    assert said[10].startswith("judged by embedded: pairs in both orders, a critique of at most 512 tokens")
    assert said[-1] == f"publish in {tmp_path / 'out' / 'judged'}"
    assert not (tmp_path / "out").exists()


def test_an_engine_is_held_to_a_verdict_and_an_endpoint_is_parsed() -> None:
    stage, step = step_of(JudgeConfig(max_tokens=9, with_critique=False, both_orders=True))
    assert isinstance(stage, PromptStage) and isinstance(step.judge, ConstrainedJudge) and step.both
    assert (step.judge.max_tokens, step.judge.with_critique) == (9, False)
    fits = judge_segment(Run(Path("out")), JudgeConfig(max_tokens=9)).stages[0]
    assert isinstance(fits, FitsJudge) and (fits.max_tokens, fits.format, fits.closing) == (9, "cot", True)
    stage, step = step_of(JudgeConfig(engine=ENDPOINT, with_critique=False))  # type: ignore[arg-type]
    assert isinstance(stage, EndpointStage) and isinstance(step.judge, Judge)
    assert (step.judge.format, step.both) == ("judgment_only", False)


def test_the_engine_is_a_pool_or_an_endpoint() -> None:
    assert isinstance(JudgeConfig(engine={"model": "embedded"}).engine, EngineConfig)  # type: ignore[arg-type]
    assert isinstance(JudgeConfig(engine=ENDPOINT).engine, EndpointConfig)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"judge\.engine: unknown key 'api_key'") as told:
        JudgeConfig(engine={**ENDPOINT, "api_key": "secret"})  # type: ignore[arg-type]
    assert "secret" not in str(told.value)


def test_settings_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def read(*settings: str) -> Any:
        return load_config("judge", settings).judge

    assert read("judge.input=in.jsonl").input == [str(tmp_path / "in.jsonl")]
    assert read("judge.input=[s3://b/*.parquet, ~/x]").input == ["s3://b/*.parquet", str(Path.home() / "x")]
    assert read("judge.output=o").output == tmp_path / "o"
    assert read("judge.template=mine.yaml").template == str(tmp_path / "mine.yaml")
    with pytest.raises(UserError, match="give either task"):
        read("judge.mapping={fields: {instruction: record.q, responses: record.r}}")
    with pytest.raises(UserError, match="each and python make items"):
        read("judge.mapping={each: record.x}")
    with pytest.raises(UserError, match=r"unknown key 'judge\.engine\.modle'"):
        read("judge.engine.modle=x")


def test_what_changes_a_judgment_is_part_of_its_identity_and_where_it_is_not() -> None:
    base = JudgeConfig(input="a.jsonl").identity()
    assert JudgeConfig(input="b.jsonl", output=Path("o"), rows_per_block=3).identity() == base
    assert JudgeConfig(both_orders=True).identity() != base
