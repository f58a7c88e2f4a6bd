"""What a vLLM engine is asked, with its `_generate` recorded: the engine itself is the integration tests'."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.core.errors import UserError
from pipelines.engines.llm.ask import Closing, TooLong
from pipelines.engines.llm.engine import EngineAsk
from pipelines.engines.llm.generated import Generated
from pipelines.engines.llm.verdict_tokens import verdict_tokens
from pipelines.judging.chat import encode_prompt, encode_text, end_of_turn


class Recorded(EngineAsk):
    """Notes what the engine would be asked."""

    def __init__(self, tokenizer: Any, room: int) -> None:
        scheduler, parallel = SimpleNamespace(max_num_seqs=1), SimpleNamespace(pipeline_parallel_size=1)
        engine: Any = SimpleNamespace(vllm_config=SimpleNamespace(scheduler_config=scheduler, parallel_config=parallel))
        super().__init__(engine, tokenizer, room)
        self.asked: list[tuple[list[int], dict[str, Any]]] = []

    async def _generate(self, ids: list[int], hear: Any = None, **options: Any) -> Generated:
        self.asked.append((ids, options))
        likely = {
            token: SimpleNamespace(logprob=-float(place))
            for place, token in enumerate(options.get("logprob_token_ids") or ())
        }
        if hear:
            for piece in ("Y", "es", "."):
                hear(piece)
        return Generated("Yes.", [1], [likely] if likely else [], finished=True)


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
    shared, paths = verdict_tokens(tokenizer, answers)
    ((ids, options),) = recorded.asked
    assert ids == encode_prompt(tokenizer, "x") + shared
    assert (options["max_tokens"], options["logprob_token_ids"]) == (1, [path[0] for path in paths])
    assert (answer.text, answer.top) == ("Result: A", [{"Result: A": 0.0, "Result: B": -1.0}])


def test_answers_that_part_in_two_places_take_two_tokens(tokenizer: Any) -> None:
    recorded, answers = Recorded(tokenizer, 4096), ["Result: 1", "Result: 2", "Result: 10"]
    answer = ask(recorded, rank_choices=answers)
    shared, _ = verdict_tokens(tokenizer, answers)
    one, two, zero = encode_text(tokenizer, "120")
    beginning = encode_prompt(tokenizer, "x") + shared
    asked = [(ids, options["logprob_token_ids"]) for ids, options in recorded.asked]
    assert asked == [(beginning, [one, two]), ([*beginning, one], [end_of_turn(tokenizer), zero])]
    # The recorded engine gives e times as much to the first of two tokens as to the second.
    first = math.e / (1 + math.e)
    shares = [math.exp(answer.top[0][text]) for text in answers]
    assert shares == pytest.approx([first * first, 1 - first, first * (1 - first)])
    assert (answer.text, answer.output_tokens) == ("Result: 1", 2)


def test_the_likeliest_ending_alone_is_not_written(tokenizer: Any) -> None:
    closing = Closing("", {"A": "Result: A", "B": "Result: B"})
    answer = ask(Recorded(tokenizer, 4096), max_tokens=0, closing=closing)
    assert (answer.text, answer.verdict, answer.forced) == ("Result: A", "A", False)
    assert answer.verdict_probs == pytest.approx({"A": math.e / (1 + math.e), "B": 1 / (1 + math.e)})


def test_an_answer_can_be_read_while_it_is_written(tokenizer: Any) -> None:
    heard: list[str] = []
    assert ask(Recorded(tokenizer, 4096), on_text=heard.append).text == "Yes."
    assert heard == ["Y", "es", "."]


def test_an_engine_without_the_processor_is_asked_for_no_closing(tokenizer: Any) -> None:
    recorded = Recorded(tokenizer, 4096)
    recorded.engine.vllm_config.model_config = SimpleNamespace(logits_processors=None)
    with pytest.raises(UserError, match="cannot hold an answer to its ending"):
        ask(recorded, closing=Closing("Result:", {"A": "Result: A", "B": "Result: B"}))
    assert recorded.asked == []
