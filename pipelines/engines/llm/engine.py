"""A vLLM engine, for batch jobs and the server, by vLLM's public names."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from scipy.special import softmax

from pipelines.core.errors import RowFailure, UserError
from pipelines.engines.arithmetic import fast_arithmetic
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.ask import TOO_LONG, Answer, Closing, TooLong
from pipelines.engines.llm.closing import MOST_IDS, closing_request
from pipelines.engines.llm.generated import Generated, Weighed
from pipelines.engines.llm.heads import refuse_other_heads
from pipelines.engines.llm.reading_along import OnText, ReadingAlong
from pipelines.engines.llm.start_errors import started
from pipelines.engines.llm.verdict_rule import PROCESSOR
from pipelines.engines.llm.verdict_tokens import Path, branches, path_logprobs, tree_of, verdict_tokens
from pipelines.engines.models import resolve
from pipelines.judging.chat import encode_prompt, encode_text
from pipelines.judging.thoughts import NEVER, Parted, Thinking, part, thinking_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
    from vllm import AsyncLLMEngine
    from vllm.lora.request import LoRARequest

# Requests in an engine, as a multiple of those it computes at once: a few wait, so that no place stays empty. With many
# in its queue vLLM slows down; `ray.data.llm` has the same bound.
FULL = 1.1


def engine_arguments(engine: EngineConfig, *, closing: bool = False, seeded: bool = False) -> dict[str, Any]:
    """Arguments of vLLM's engine; on a CPU and on GPUs the same but for the devices.

    Args:
        engine: of the config.
        closing: it will be asked to hold answers to their ending. Only then has it a logits processor: with one, vLLM
            0.29 leaves its newer model runner on GPUs.
        seeded: it will be asked to sample with seeds. On a CPU it then takes prompts whole: of one that is cut over two
            steps vLLM 0.29 takes the generator back by an offset, which a CPU's has not, and the engine dies.

    Raises:
        UserError: the engine is to hold answers and to speculate, which vLLM does not do together; or it is on a CPU,
            and the model's attention heads are of a size that vLLM does not compute there.
    """
    arguments: dict[str, Any] = {
        "dtype": fast_arithmetic(engine.num_gpus) if engine.dtype == "auto" else engine.dtype,
        "max_model_len": engine.max_model_len,
        "max_num_seqs": engine.max_num_seqs,
        "enable_prefix_caching": True,
        # Where Ray runs, vLLM would let it place a worker on each of several GPUs; these GPUs belong to the actor.
        "distributed_executor_backend": "mp" if engine.num_gpus > 1 else "uni",
    }
    if closing:
        if engine.engine_args.get("speculative_config"):
            raise UserError(
                "speculative decoding cannot hold a judge's answers to their ending",
                where="engine.engine_args.speculative_config",
                fix="leave it out",
            )
        arguments["logits_processors"] = [PROCESSOR]
    if engine.num_gpus:
        arguments["tensor_parallel_size"] = engine.num_gpus
    else:
        refuse_other_heads(engine.model)
        arguments["enforce_eager"] = True  # nothing to capture without a GPU
        arguments["block_size"] = 32  # the CPU default of 128 tokens is longer than a short row's shared prefix
        if seeded:
            arguments["enable_chunked_prefill"] = False
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


def start_engine(config: EngineConfig, *, closing: bool = False, seeded: bool = False) -> EngineAsk:
    """Load the model into an engine of this process.

    Args:
        config: of the engine.
        closing: as for `engine_arguments`.
        seeded: likewise.

    Raises:
        UserError: there is no such model, its chat template is not usable, or the engine cannot be as it is asked for.
    """
    from transformers import AutoTokenizer
    from vllm import AsyncEngineArgs, AsyncLLMEngine

    model = resolve(config.model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    thinking = thinking_of(config.reasoning, tokenizer)  # first: an unusable chat template is found at once
    arguments = {
        "enable_log_requests": False,
        "runner": "generate",
        **engine_arguments(config, closing=closing, seeded=seeded),
    }
    engine = started(lambda: AsyncLLMEngine.from_engine_args(AsyncEngineArgs(model=model, **arguments)), config.model)
    return EngineAsk(engine, tokenizer, config.max_model_len, thinking)


class EngineAsk:
    """Ask a vLLM engine. Belongs to the event loop it is first used in.

    Args:
        engine: to be asked.
        tokenizer: of its model.
        room: tokens of prompt and answer together.
        thinking: how the model marks its thoughts; None if it is not known to think.
        adapter: LoRA weights that the engine has beside its model; None: the model as it is.
    """

    def __init__(
        self,
        engine: AsyncLLMEngine,
        tokenizer: PreTrainedTokenizerBase,
        room: int,
        thinking: Thinking | None = None,
        adapter: LoRARequest | None = None,
    ) -> None:
        self.engine, self.tokenizer, self.room, self.thinking = engine, tokenizer, room, thinking
        self.adapter = adapter
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
        closing: Closing | None = None,
        on_text: OnText | None = None,
    ) -> Answer:
        """As `Ask`; special tokens written in the message are plain text. Cancelled, it frees the engine.

        Raises:
            TooLong: prompt and answer do not fit the model.
            RowFailure: two of `rank_choices` are the same, or vLLM does not accept the request.
            UserError: `closing` is asked of an engine without `VerdictProcessor`.
        """
        ids = encode_prompt(self.tokenizer, prompt)
        if rank_choices:
            return await self._rank(ids, rank_choices)
        if closing and not max_tokens:
            return await self._close_at_once(ids, closing)
        sampling: dict[str, Any] = {
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed if temperature > 0 else None,
            "skip_special_tokens": not self.shows_marks,
        }
        if closing:
            return await self._close(ids, closing, max_tokens, sampling, on_text)
        self._require_room(ids, max_tokens)
        start = time.monotonic()
        along = ReadingAlong(on_text, NEVER if choices else self.thinking) if on_text else None
        written = await self._generate(
            ids,
            along.hear if along else None,
            max_tokens=max_tokens,
            structured_outputs=_one_of(choices) if choices else None,
            logprobs=logprobs or None,
            **sampling,
        )
        # What was chosen from a closed set holds no thoughts.
        parted = Parted("", written.text) if choices else self._part(written)
        top, tokens = [], []
        if not choices:
            likely = written.logprobs
            top = [{entry.decoded_token: entry.logprob for entry in position.values()} for position in likely]
            tokens = [position[token].decoded_token for position, token in zip(likely, written.ids, strict=False)]
        if along:
            along.end(parted.answer)
        return Answer(
            **self._costs(ids, written, parted, start),
            text=parted.answer,
            top=top,
            written=tokens,
            thoughts_cut=parted.cut,
            finished=written.finished,
        )

    async def _rank(self, ids: list[int], answers: Sequence[str]) -> Answer:
        """The likeliest of some answers: one token for each place where they part, all places at once."""
        shared, paths = verdict_tokens(self.tokenizer, answers)
        places, ids = dict(branches(tree_of(paths))), [*ids, *shared]
        self._require_room(ids, max(map(len, places)) + 1)
        start = time.monotonic()
        found = await self._weigh(ids, places)
        if len(found) == 1:  # one token tells them apart: as the model has it, not only in proportion
            likely = [found[()].logprobs[path[0]] for path in paths]
        else:
            likely = path_logprobs(paths, {place: weighed.logprobs for place, weighed in found.items()})
        top = dict(zip(answers, likely, strict=True))
        return Answer(
            text=max(answers, key=top.__getitem__),
            prompt_tokens=len(ids),
            output_tokens=len(found),
            seconds=time.monotonic() - start,
            cached_tokens=found[min(found)].cached_tokens,
            top=[top],
        )

    async def _close_at_once(self, ids: list[int], closing: Closing) -> Answer:
        answer = await self._rank(ids, list(closing.endings.values()))
        shares = softmax(list(answer.top[0].values())).tolist()
        probs = dict(zip(closing.endings, shares, strict=True))
        return replace(answer, top=[], verdict=max(probs, key=probs.__getitem__), verdict_probs=probs)

    async def _close(
        self, ids: list[int], closing: Closing, budget: int, sampling: dict[str, Any], on_text: OnText | None
    ) -> Answer:
        """Free text and an ending in one request; further ones weigh what the model did not come past."""
        self._require_processor()
        request = closing_request(self.tokenizer, closing, budget, self.thinking)
        self._require_room(ids, request.most)
        start = time.monotonic()
        along = ReadingAlong(on_text, self.thinking, closing) if on_text else None
        written = await self._generate(ids, along.hear if along else None, **request.sampling(), **sampling)
        parted = self._part(written)
        ended = request.read(self.tokenizer, written)
        if along:
            along.end(closing.before(parted.answer, ended.verdict))
        missing = await self._weigh([*ids, *written.ids[: ended.at]], ended.unvisited)
        probs = ended.probabilities({place: weighed.logprobs for place, weighed in missing.items()})
        return Answer(
            **self._costs(ids, written, parted, start),
            text=parted.answer,
            verdict=ended.verdict,
            verdict_probs=probs,
            forced=ended.forced,
        )

    async def _weigh(self, ids: list[int], places: Mapping[Path, list[int]]) -> dict[Path, Weighed]:
        """Log-probabilities of tokens after each of some places: one request for each, all at once."""
        asked = [
            (place, tokens[at : at + MOST_IDS])
            for place, tokens in places.items()
            for at in range(0, len(tokens), MOST_IDS)
        ]
        answers = await asyncio.gather(
            *(
                self._generate([*ids, *place], max_tokens=1, temperature=0.0, logprob_token_ids=tokens)
                for place, tokens in asked
            )
        )
        found: dict[Path, Weighed] = {}
        for (place, tokens), answer in zip(asked, answers, strict=True):
            weighed = found.setdefault(place, Weighed({}, answer.cached_tokens))
            weighed.logprobs.update({token: answer.logprobs[0][token].logprob for token in tokens})
        return found

    def _part(self, written: Generated) -> Parted:
        return part(written.text, self.thinking, finished=written.finished)

    def _costs(self, ids: list[int], written: Generated, parted: Parted, start: float) -> dict[str, Any]:
        return {
            "prompt_tokens": len(ids),
            "output_tokens": len(written.ids),
            "seconds": time.monotonic() - start,
            "cached_tokens": written.cached_tokens,
            "thoughts": parted.thoughts,
            "thought_tokens": len(encode_text(self.tokenizer, parted.thoughts)) if parted.thoughts else 0,
        }

    def _require_room(self, ids: list[int], tokens: int) -> None:
        if len(ids) + tokens > self.room:
            said = f"prompt of {len(ids)} + answer of {tokens} tokens exceed {self.room}"
            raise TooLong(TOO_LONG, said)

    def _require_processor(self) -> None:
        if PROCESSOR not in (self.engine.vllm_config.model_config.logits_processors or ()):
            raise UserError(
                "this engine cannot hold an answer to its ending",
                where="logits_processors",
                fix=f"start it with the logits processor {PROCESSOR}",
            )

    async def _generate(self, ids: list[int], hear: OnText | None = None, **sampling: Any) -> Generated:
        """One request. Where its coroutine is cancelled, the engine drops it.

        Args:
            ids: of the prompt.
            hear: called with each further piece of the text.
            sampling: arguments of SamplingParams.
        """
        from vllm import SamplingParams, TokensPrompt
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind

        # One output when the answer is complete, unless somebody reads along: an output for every token would take
        # cores from an engine on a CPU.
        kind = RequestOutputKind.DELTA if hear else RequestOutputKind.FINAL_ONLY
        try:
            settings = SamplingParams(output_kind=kind, **sampling)
            async with self.places:
                number = f"{self.adapter.lora_name if self.adapter else ''}-{next(self.numbers)}"
                prompt = TokensPrompt(prompt_token_ids=ids)
                outputs = self.engine.generate(prompt, settings, number, lora_request=self.adapter)
                generated = Generated()
                async with aclosing(outputs):
                    async for output in outputs:
                        piece = generated.add(output)
                        if hear and piece:
                            hear(piece)
                return generated
        except VLLMClientError as exc:
            raise RowFailure("not_accepted_by_the_engine", str(exc)) from exc

    async def check_health(self) -> None:
        """Raise an exception if the engine is dead."""
        await self.engine.check_health()


def _one_of(choices: Sequence[str]) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    return StructuredOutputsParams(choice=list(choices))
