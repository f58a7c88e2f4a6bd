"""Engines and training compute in bfloat16 where the device does so at full speed, and in float32 elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pipelines.engines import arithmetic
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.engine import engine_arguments
from pipelines.training import settings
from pipelines.training.config import TrainConfig


@pytest.fixture(autouse=True)
def cpu_looked_at_anew() -> Iterator[None]:
    arithmetic._cpu_multiplies_bfloat16.cache_clear()
    yield
    arithmetic._cpu_multiplies_bfloat16.cache_clear()


def cpu_is(monkeypatch: pytest.MonkeyPatch, machine: str, capability: str) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)


@pytest.mark.parametrize(
    ("machine", "capability", "fast"),
    [("x86_64", "AVX512", True), ("x86_64", "AVX2", False), ("AMD64", "DEFAULT", False), ("aarch64", "SVE256", True)],
)
def test_a_cpu_that_would_emulate_bfloat16_computes_in_float32(
    monkeypatch: pytest.MonkeyPatch, machine: str, capability: str, fast: bool
) -> None:
    cpu_is(monkeypatch, machine, capability)
    assert engine_arguments(EngineConfig())["dtype"] == ("bfloat16" if fast else "float32")
    assert settings.precision(TrainConfig()) == ("bfloat16_autocast" if fast else "float32")


def test_gpus_and_what_the_config_says_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu_is(monkeypatch, "x86_64", "AVX2")
    assert engine_arguments(EngineConfig(num_gpus=1))["dtype"] == "bfloat16"
    assert engine_arguments(EngineConfig(dtype="bfloat16"))["dtype"] == "bfloat16"
    assert settings.precision(TrainConfig(gpus_per_worker=1)) == "bfloat16_autocast"
    assert settings.precision(TrainConfig(precision="bfloat16_autocast")) == "bfloat16_autocast"
