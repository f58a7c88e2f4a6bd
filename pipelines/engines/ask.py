"""Ask an engine one thing: the message as plain text in, the answer with its costs out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipelines.engines.verdict_tokens import verdict_tokens
from pipelines.judging.chat import encode_prompt


@dataclass(frozen=True)
class Answer:
    """What the engine wrote.

    Attributes:
        text: the answer.
        prompt_tokens: tokens of the prompt; 0 where an endpoint does not tell.
        output_tokens: tokens of the answer; the same.
        seconds: from asking to the last token, waiting for a place included; of an endpoint, from the first try.
        cached_tokens: tokens of the prompt that the engine had computed before (prefix cache).
        top: for each output token, the most likely tokens' texts and log-probabilities, if they were asked for.
    """

    text: str
    prompt_tokens: int
    output_tokens: int
    seconds: float
    cached_tokens: int = 0
    top: list[dict[str, float]] = field(default_factory=list)


class Ask(Protocol):
    """Send one user message to the engine."""

    async def __call__(
        self,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        choices: Sequence[str] | None = None,
        logprobs: int = 0,
        among: Sequence[str] | None = None,
    ) -> Answer: ...


class EngineAsk:
    """Ask a vLLM engine through the wrapper of `ray.data.llm`; batch jobs and the server share it.

    Args:
        engine: the library's vLLMEngineWrapper.
        room: tokens of prompt and answer together.
    """

    def __init__(self, engine: Any, room: int) -> None:
        from transformers import AutoTokenizer
        from vllm.sampling_params import RequestOutputKind

        self.engine, self.room = engine, room
        # One output when the answer is whole: nobody reads along, and an output for every token costs an engine on a
        # CPU cores it could compute with.
        self.whole = RequestOutputKind.FINAL_ONLY
        self.tokenizer = AutoTokenizer.from_pretrained(engine.model_source)

    async def __call__(
        self,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        choices: Sequence[str] | None = None,
        logprobs: int = 0,
        among: Sequence[str] | None = None,
    ) -> Answer:
        """Send one user message.

        Args:
            prompt: the message; special tokens in it are plain text.
            max_tokens: most tokens of the answer.
            temperature: 0 is greedy.
            top_p: nucleus.
            seed: of the sampling, where there is any.
            choices: the answer is one of these texts.
            logprobs: most likely tokens to report at each position.
            among: answers that part at one token. They are not written but compared there: the answer is the
                likeliest of them, and `top` has one position with the log-probability of each.

        Raises:
            ValueError: prompt and answer do not fit the model, or one token cannot tell the answers apart.
        """
        ids = encode_prompt(self.tokenizer, prompt)
        if among:
            shared, parting = verdict_tokens(self.tokenizer, among)
            ids, max_tokens = ids + shared, 1
        if len(ids) + max_tokens > self.room:
            raise ValueError(f"prompt of {len(ids)} + answer of {max_tokens} tokens exceed {self.room}")
        sampling: dict[str, Any] = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "output_kind": self.whole,
        }
        if temperature > 0:
            sampling["seed"] = seed
        if choices:
            sampling["structured_outputs"] = {"choice": list(choices)}
        if among:
            sampling["logprob_token_ids"] = parting
        elif logprobs:
            sampling["logprobs"] = logprobs
        start = time.monotonic()
        # The two halves of the wrapper's generate_async, which leaves the cached tokens out of what it returns.
        request = await self.engine._prepare_llm_request(
            {self.engine.idx_in_batch_column: 0, "tokenized_prompt": ids, "sampling_params": sampling}
        )
        async with self.engine.semaphore:
            output = await self.engine._generate_async(request)
        written = output.outputs[0]
        text, likely = written.text, written.logprobs or []
        if among:
            top = [{answer: likely[0][token].logprob for answer, token in zip(among, parting, strict=True)}]
            text = max(among, key=top[0].__getitem__)
        else:
            top = [{entry.decoded_token: entry.logprob for entry in position.values()} for position in likely]
        return Answer(
            text=text,
            prompt_tokens=len(ids),
            output_tokens=len(written.token_ids),
            seconds=time.monotonic() - start,
            cached_tokens=output.num_cached_tokens or 0,
            top=top,
        )
