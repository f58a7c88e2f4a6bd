"""Prompts through an OpenAI-compatible endpoint: as `PromptStage`, with one light actor in place of the engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.engines.endpoint_config import EndpointConfig
from pipelines.engines.llm.ask import Ask
from pipelines.engines.llm.endpoint import EndpointAsk
from pipelines.engines.llm.steps import PromptStep, StepStage


class EndpointStage(StepStage):
    """Steps whose prompts go to an endpoint."""

    num_cpus = 0.25
    actors = (1, 1)  # one keeps to `concurrency` over the whole cluster

    def __init__(self, name: str, endpoint: EndpointConfig, steps: Sequence[PromptStep]) -> None:
        super().__init__(name, steps)
        self.endpoint = endpoint
        self.rows_per_batch = endpoint.concurrency
        # Several, so that the slowest answer of a block does not leave places empty.
        self.blocks_at_once = 2 + endpoint.concurrency // 16

    def depends(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint.identity(), **super().depends()}

    def connect(self) -> Ask:
        return EndpointAsk(self.endpoint)
