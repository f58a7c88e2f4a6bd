"""A model as one batch asks it: what its answers cost is added up, and counted once."""

from __future__ import annotations

from typing import Any

from pipelines.engines import counts
from pipelines.engines.llm.ask import Answer, Ask


class Asked:
    """Asks a model, and keeps count of all it answers; a row that fails afterwards has cost its tokens too.

    Args:
        ask: the model.
    """

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.prompt = self.cached = self.output = 0
        self.seconds: list[float] = []

    async def __call__(self, prompt: str, **settings: Any) -> Answer:
        """Ask as `Ask` does."""
        answer = await self.ask(prompt, **settings)
        self.prompt += answer.prompt_tokens
        self.cached += answer.cached_tokens
        self.output += answer.output_tokens
        self.seconds.append(answer.seconds)
        return answer

    def count(self, stage: str) -> None:
        """Count what was answered, under the name of a stage."""
        counts.answers(stage, self.prompt, self.cached, self.output, self.seconds)
