"""vLLM, as the benchmark job and the judge service run it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.closing import MOST_IDS
from pipelines.engines.llm.engine import engine_arguments
from pipelines.engines.llm.start_errors import started
from pipelines.engines.models import resolve
from pipelines.judging.chat import encode_prompts
from pipelines.release.parity.reader import Weights


class VllmReader:
    """An engine of vLLM in this process.

    Args:
        engine: with the model.

    Raises:
        UserError: the engine cannot be as it is asked for.
    """

    def __init__(self, engine: EngineConfig) -> None:
        from vllm import LLM

        arguments = {"runner": "generate", **engine_arguments(engine)}
        self.llm = started(lambda: LLM(model=resolve(engine.model), **arguments), engine.model)
        self.tokenizer: Any = self.llm.get_tokenizer()

    def encode(self, messages: Sequence[str]) -> list[list[int]]:
        """As `Reader`."""
        return encode_prompts(self.tokenizer, messages)

    def chat(self, messages: Sequence[str]) -> list[list[int]]:
        """As `Reader`, by vLLM's own chat route."""
        from vllm import SamplingParams

        turns: list[Any] = [[{"role": "user", "content": message.strip()}] for message in messages]
        outputs = self.llm.chat(turns, SamplingParams(max_tokens=1, temperature=0.0), use_tqdm=False)
        return [list(output.prompt_token_ids or []) for output in outputs]

    def weigh(self, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> Weights:
        """As `Reader`."""
        from vllm import SamplingParams, TokensPrompt

        asked = [
            (number, list(wanted[at : at + MOST_IDS]))
            for number, wanted in enumerate(tokens)
            for at in range(0, len(wanted), MOST_IDS)
        ]
        settings = [SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=ids) for _, ids in asked]
        given = [TokensPrompt(prompt_token_ids=list(prompts[number])) for number, _ in asked]
        found: Weights = [{} for _ in prompts]
        for (number, ids), output in zip(asked, self.llm.generate(given, settings, use_tqdm=False), strict=True):
            likely = output.outputs[0].logprobs
            assert likely is not None
            found[number].update({token: float(likely[0][token].logprob) for token in ids})
        return found
