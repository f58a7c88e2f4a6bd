"""Arguments and environment of an engine, on a CPU and on GPUs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pipelines.core.config import EngineConfig
from pipelines.engines.ask import EngineAsk
from pipelines.engines.vllm_stage import PromptStage, PromptStep, engine_arguments, engine_environment


def test_cpu_and_gpu_differ_in_devices_only() -> None:
    cpu, gpu = engine_arguments(EngineConfig()), engine_arguments(EngineConfig(num_gpus=8))
    assert cpu.pop("enforce_eager") is True and cpu.pop("block_size") == 32
    assert gpu.pop("tensor_parallel_size") == 8
    assert cpu == gpu
    assert "VLLM_CPU_KVCACHE_SPACE" in engine_environment(EngineConfig())
    assert "VLLM_CPU_KVCACHE_SPACE" not in engine_environment(EngineConfig(num_gpus=1))


def test_engine_args_of_the_config_win() -> None:
    assert engine_arguments(EngineConfig(engine_args={"enforce_eager": False}))["enforce_eager"] is False


def test_stage_reads_only_what_its_own_steps_do_not_add() -> None:
    import pyarrow as pa

    class First(PromptStep):
        name, reads, adds = "first", ("a",), (pa.field("b", pa.string()),)

        async def run(self, row: Any, ask: Any) -> None: ...

    class Second(First):
        name, reads, adds = "second", ("b", "c"), ()

    stage = PromptStage("both", EngineConfig(), [First(), Second()])
    assert stage.reads == ("a", "c") and [f.name for f in stage.adds] == ["b"]


def test_prompt_that_leaves_no_room_is_refused_before_the_engine_sees_it() -> None:
    class Tokenizer:
        def apply_chat_template(self, messages: Any, **_: Any) -> str:
            return messages[0]["content"]

        def encode(self, text: str, **_: Any) -> list[int]:
            return [1] * len(text.split())

    ask = EngineAsk.__new__(EngineAsk)
    ask.engine, ask.room, ask.tokenizer = None, 10, Tokenizer()
    with pytest.raises(ValueError, match=r"prompt of 8 \+ answer of 5 tokens exceed 10"):
        asyncio.run(ask("w " * 8, max_tokens=5))
