"""Arguments and environment of an engine, on a CPU and on GPUs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import UserError
from pipelines.curation.config import CritiqueConfig
from pipelines.curation.consistency import ConsistencyCheck
from pipelines.curation.critique import Critique
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm import vllm_stage
from pipelines.engines.llm.constrained import ConstrainedJudge
from pipelines.engines.llm.engine import engine_arguments, engine_environment
from pipelines.engines.llm.steps import PromptStep
from pipelines.engines.llm.verdict_rule import PROCESSOR
from pipelines.engines.llm.vllm_stage import PromptStage
from pipelines.judge_job.both_orders import BothOrders
from pipelines.training.config import TrainConfig
from pipelines.training.own_critiques import OwnCritiques
from tests.training.tiny import write_model

VLLM = "vllm.v1.sample.logits_processor"


def test_cpu_and_gpu_differ_in_devices_only() -> None:
    cpu, gpu = (engine_arguments(EngineConfig(num_gpus=gpus, dtype="bfloat16")) for gpus in (0, 8))
    assert cpu.pop("enforce_eager") is True and cpu.pop("block_size") == 32
    assert gpu.pop("tensor_parallel_size") == 8
    assert (cpu.pop("distributed_executor_backend"), gpu.pop("distributed_executor_backend")) == ("uni", "mp")
    assert cpu == gpu
    assert "VLLM_CPU_KVCACHE_SPACE" in engine_environment(EngineConfig())
    assert "VLLM_CPU_KVCACHE_SPACE" not in engine_environment(EngineConfig(num_gpus=1))


def test_heads_that_vllm_has_not_on_a_cpu_are_refused(tmp_path: Path) -> None:
    small, whole = (str(write_model(tmp_path / str(head), head=head)) for head in (8, 32))
    with pytest.raises(UserError, match="no attention heads of 8 on a CPU, only of 32, 64"):
        engine_arguments(EngineConfig(model=small))
    assert engine_arguments(EngineConfig(model=small, num_gpus=1)) and engine_arguments(EngineConfig(model=whole))


def test_engine_args_of_the_config_win() -> None:
    assert engine_arguments(EngineConfig(engine_args={"enforce_eager": False}))["enforce_eager"] is False


def test_an_engine_has_the_processor_where_a_step_asks_for_held_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "logits_processors" not in engine_arguments(EngineConfig())
    assert engine_arguments(EngineConfig(), closing=True)["logits_processors"] == [PROCESSOR]
    started: list[bool] = []
    monkeypatch.setattr(vllm_stage, "start_engine", lambda engine, *, closing, seeded: started.append(closing))
    judges: list[PromptStep] = [Wordy(1), ConstrainedJudge(8), BothOrders(ConstrainedJudge(8), True)]
    for judge in judges:
        PromptStage("s", EngineConfig(), [judge]).connect()
    assert started == [False, True, True]


def test_a_cpu_engine_takes_prompts_whole_where_a_step_samples_with_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "enable_chunked_prefill"
    assert engine_arguments(EngineConfig(), seeded=True)[name] is False
    assert name not in engine_arguments(EngineConfig()) | engine_arguments(EngineConfig(num_gpus=1), seeded=True)
    started: list[bool] = []
    monkeypatch.setattr(vllm_stage, "start_engine", lambda engine, *, closing, seeded: started.append(seeded))
    sampling = CritiqueConfig(temperature=0.7)
    again = CritiqueConfig(attempts=2)
    for steps in (
        [Critique(CritiqueConfig(), 0), ConsistencyCheck(CritiqueConfig(), 0)],
        [Critique(sampling, 0), ConsistencyCheck(sampling, 0)],
        [Critique(again, 0), ConsistencyCheck(again, 0)],
        [OwnCritiques(TrainConfig(), 0, 1, ())],
    ):
        PromptStage("s", EngineConfig(), steps).connect()
    assert started == [False, True, True, True]


def test_an_engine_that_speculates_is_refused_where_answers_are_held() -> None:
    speculates = EngineConfig(engine_args={"speculative_config": {"method": "ngram"}})
    assert "logits_processors" not in engine_arguments(speculates)
    with pytest.raises(UserError, match="speculative"):
        engine_arguments(speculates, closing=True)


def test_the_processor_is_one_of_vllms_kind() -> None:
    module, _, name = PROCESSOR.partition(":")
    assert issubclass(getattr(import_module(module), name), import_module(VLLM).LogitsProcessor)


class Wordy(PromptStep):
    name = "wordy"

    def __init__(self, words: int) -> None:
        self.words = words

    def depends(self) -> dict[str, Any]:
        return {"words": self.words}

    async def run(self, row: Any, ask: Any) -> None: ...


def test_a_result_depends_on_the_model_the_engine_s_arguments_and_the_steps(
    tmp_path: Path,
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "weights").write_bytes(b"1")
    engine = EngineConfig(model=str(model), engine_args={"quantization": "fp8"})

    def depends(engine: EngineConfig, words: int = 1) -> dict[str, Any]:
        return PromptStage("s", engine, [Wordy(words)]).depends()

    first = depends(engine)
    assert depends(engine.model_copy(update={"batch_size": 3, "engines": (2, 4), "num_gpus": 8})) == first
    assert depends(engine, words=2) != first
    assert depends(engine.model_copy(update={"engine_args": {}})) != first
    assert depends(engine.model_copy(update={"dtype": "float32"})) != first
    moved = model.rename(tmp_path / "elsewhere")
    assert depends(engine.model_copy(update={"model": str(moved)})) == first
    (moved / "weights").write_bytes(b"2")  # of the same size
    assert depends(engine.model_copy(update={"model": str(moved)})) != first


def test_an_actor_holds_what_its_engine_takes() -> None:
    stage = PromptStage("s", EngineConfig(num_gpus=4, num_cpus=2, engines=(1, 3), concurrent_batches=5), [])
    assert (stage.num_gpus, stage.num_cpus, stage.actors, stage.blocks_at_once) == (4, 8, (1, 3), 5)
    assert PromptStage("s", EngineConfig(), []).num_cpus == 1
