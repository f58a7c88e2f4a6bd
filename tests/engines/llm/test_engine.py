"""What a vLLM engine is asked, with its `_generate` recorded: the engine itself is the integration tests'."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.engines.llm.ask import TooLong
from pipelines.engines.llm.engine import EngineAsk
from pipelines.engines.llm.verdict_tokens import verdict_tokens
from pipelines.judging.chat import encode_prompt


class Recorded(EngineAsk):
    """Notes what the engine would be asked."""

    def __init__(self, tokenizer: Any, room: int) -> None:
        scheduler, parallel = SimpleNamespace(max_num_seqs=1), SimpleNamespace(pipeline_parallel_size=1)
        engine: Any = SimpleNamespace(vllm_config=SimpleNamespace(scheduler_config=scheduler, parallel_config=parallel))
        super().__init__(engine, tokenizer, room)
        self.asked: list[tuple[list[int], dict[str, Any]]] = []

    async def _generate(self, ids: list[int], **options: Any) -> Any:
        self.asked.append((ids, options))
        likely = {
            token: SimpleNamespace(logprob=-float(place))
            for place, token in enumerate(options["logprob_token_ids"] or ())
        }
        written = SimpleNamespace(
            text="Yes.", logprobs=[likely] if likely else None, token_ids=[1], finish_reason="stop"
        )
        return SimpleNamespace(outputs=[written], num_cached_tokens=0)


def ask(recorded: Recorded, **options: Any) -> Any:
    return asyncio.run(recorded("x", **{"max_tokens": 8} | options))


def test_only_a_sampled_answer_has_a_seed(tokenizer: Any) -> None:
    recorded = Recorded(tokenizer, 4096)
    ask(recorded, seed=7)
    ask(recorded, seed=7, temperature=0.5)
    assert [options["seed"] for _, options in recorded.asked] == [None, 7]


def test_prompt_and_answer_may_fill_the_room_and_no_more(tokenizer: Any) -> None:
    prompt = len(encode_prompt(tokenizer, "x"))
    ask(Recorded(tokenizer, prompt + 8))
    with pytest.raises(TooLong, match=f"prompt of {prompt} . answer of 8 tokens exceed {prompt + 7}"):
        ask(Recorded(tokenizer, prompt + 7))


def test_one_token_is_asked_for_where_the_answers_part(tokenizer: Any) -> None:
    recorded, answers = Recorded(tokenizer, 4096), ["Result: A", "Result: B"]
    answer = ask(recorded, rank_choices=answers)
    shared, parting = verdict_tokens(tokenizer, answers)
    ((ids, options),) = recorded.asked
    assert ids == encode_prompt(tokenizer, "x") + shared
    assert (options["max_tokens"], options["logprob_token_ids"]) == (1, parting)
    assert (answer.text, answer.top) == ("Result: A", [{"Result: A": 0.0, "Result: B": -1.0}])
