"""A vLLM engine, for batch jobs and the server: the only module that uses vLLM, by its public names."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.core.errors import RowFailure
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.ask import TOO_LONG, Answer, TooLong
from pipelines.engines.llm.verdict_tokens import verdict_tokens
from pipelines.engines.models import resolve
from pipelines.judging.chat import encode_prompt, encode_text
from pipelines.judging.thoughts import Parted, Thinking, part, thinking_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from vllm import AsyncLLMEngine, RequestOutput

# Requests in an engine, as a multiple of those it computes at once: a few wait, so that no place stays empty. With many
# in its queue vLLM slows down; `ray.data.llm` has the same bound.
FULL = 1.1


def engine_arguments(engine: EngineConfig) -> dict[str, Any]:
    """Arguments of vLLM's engine; on a CPU and on GPUs the same but for the devices."""
    arguments: dict[str, Any] = {
        "dtype": engine.dtype,
        "max_model_len": engine.max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "enable_prefix_caching": True,
        # Where Ray runs, vLLM would let it place a worker on each of several GPUs; these GPUs belong to the actor.
        "distributed_executor_backend": "mp" if engine.num_gpus > 1 else "uni",
    }
    if engine.num_gpus:
        arguments["tensor_parallel_size"] = engine.num_gpus
    else:
        arguments["enforce_eager"] = True  # nothing to capture without a GPU
        arguments["block_size"] = 32  # the CPU default of 128 tokens is longer than a short row's shared prefix
    return {**arguments, **engine.engine_args}


def engine_environment(engine: EngineConfig) -> dict[str, str]:
    """Environment variables of an engine's process."""
    environment = {"VLLM_LOGGING_LEVEL": "ERROR"}
    if not engine.num_gpus:
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(engine.kv_cache_gb)
        # Ray would give the engine as many threads as the logical CPUs it reserves.
        environment["OMP_NUM_THREADS"] = str(os.cpu_count() or 1)
        environment["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"  # else a machine of two cores computes on one
    return environment


def start_engine(config: EngineConfig) -> EngineAsk:
    """Load the model into an engine of this process.

    Raises:
        UserError: there is no such model, or its chat template is not usable.
    """
    from transformers import AutoTokenizer
    from vllm import AsyncEngineArgs, AsyncLLMEngine

    model = resolve(config.model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    thinking = thinking_of(config.reasoning, tokenizer)  # first: an unusable chat template is found at once
    arguments = {"enable_log_requests": False, "runner": "generate", **engine_arguments(config)}
    engine = AsyncLLMEngine.from_engine_args(AsyncEngineArgs(model=model, **arguments))
    return EngineAsk(engine, tokenizer, config.max_model_len, thinking)


class EngineAsk:
    """Ask a vLLM engine. Belongs to the event loop it is first used in.

    Args:
        engine: to be asked.
        tokenizer: of its model.
        room: tokens of prompt and answer together.
        thinking: how the model marks its thoughts; None if it is not known to think.
    """

    def __init__(
        self, engine: AsyncLLMEngine, tokenizer: PreTrainedTokenizerBase, room: int, thinking: Thinking | None = None
    ) -> None:
        self.engine, self.tokenizer, self.room, self.thinking = engine, tokenizer, room, thinking
        special = set(tokenizer.all_special_tokens)
        self.shows_marks = bool(thinking and any(token in thinking.start + thinking.end for token in special))
        config = engine.vllm_config
        at_once = config.scheduler_config.max_num_seqs * config.parallel_config.pipeline_parallel_size
        self.places = asyncio.Semaphore(math.ceil(FULL * at_once))
        self.numbers = itertools.count()

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
        rank_choices: Sequence[str] | None = None,
    ) -> Answer:
        """As `Ask`; special tokens written in the message are plain text.

        Raises:
            TooLong: prompt and answer do not fit the model.
            RowFailure: one token cannot tell `rank_choices` apart, or vLLM
                does not accept the request.
        """
        ids = encode_prompt(self.tokenizer, prompt)
        candidates: list[int] = []
        if rank_choices:
            shared, candidates = verdict_tokens(self.tokenizer, rank_choices)
            ids, max_tokens = ids + shared, 1
        if len(ids) + max_tokens > self.room:
            said = f"prompt of {len(ids)} + answer of {max_tokens} tokens exceed {self.room}"
            raise TooLong(TOO_LONG, said)
        start = time.monotonic()
        output = await self._generate(
            ids,
            max_tokens=max_tokens,
            temperature=temperature,
            top_p=top_p,
            seed=seed if temperature > 0 else None,
            structured_outputs=_one_of(choices) if choices else None,
            logprobs=logprobs if logprobs and not rank_choices else None,
            logprob_token_ids=candidates or None,
            skip_special_tokens=not self.shows_marks,
        )
        written = output.outputs[0]
        text, likely, finished = written.text, written.logprobs or [], written.finish_reason != "length"
        top, tokens, parted = [], [], Parted("", text)
        if rank_choices:
            top = [{one: likely[0][token].logprob for one, token in zip(rank_choices, candidates, strict=True)}]
            parted = Parted("", max(rank_choices, key=top[0].__getitem__))
        elif not choices:  # what was chosen from a closed set holds no thoughts
            parted = part(text, self.thinking, finished=finished)
            top = [{entry.decoded_token: entry.logprob for entry in position.values()} for position in likely]
            tokens = [position[token].decoded_token for position, token in zip(likely, written.token_ids, strict=False)]
        return Answer(
            text=parted.answer,
            prompt_tokens=len(ids),
            output_tokens=len(written.token_ids),
            seconds=time.monotonic() - start,
            cached_tokens=output.num_cached_tokens or 0,
            top=top,
            written=tokens,
            thoughts=parted.thoughts,
            thought_tokens=len(encode_text(self.tokenizer, parted.thoughts)) if parted.thoughts else 0,
            thoughts_cut=parted.cut,
            finished=finished,
        )

    async def _generate(self, ids: list[int], **sampling: Any) -> RequestOutput:
        from vllm import SamplingParams, TokensPrompt
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind

        try:
            # One output when the answer is complete: nobody reads along, and an output for every token would take
            # cores from an engine on a CPU.
            settings = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **sampling)
            async with self.places:
                outputs = self.engine.generate(TokensPrompt(prompt_token_ids=ids), settings, str(next(self.numbers)))
                return [output async for output in outputs][-1]
        except VLLMClientError as exc:
            raise RowFailure("not_accepted_by_the_engine", str(exc)) from exc

    async def check_health(self) -> None:
        """Raise an exception if the engine is dead."""
        await self.engine.check_health()


def _one_of(choices: Sequence[str]) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    return StructuredOutputsParams(choice=list(choices))
