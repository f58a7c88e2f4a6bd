"""The engine's actor around a stand-in for vLLM: a row's fault stays with the row, any other is let through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipelines.core.records import EXAMPLE, Row
from pipelines.core.stage import to_table
from pipelines.engines.config import EngineConfig
from pipelines.engines.llm.ask import Answer, Ask
from pipelines.engines.llm.engine import EngineAsk
from pipelines.engines.llm.steps import PromptStep, StepActor
from pipelines.engines.llm.vllm_stage import PromptStage
from pipelines.judging.chat import encode_text
from pipelines.judging.templates import READS, load, render
from pipelines.judging.thoughts import Thinking

# Seconds: vLLM is imported.
pytestmark = pytest.mark.integration

SCHEMA = pa.schema([*EXAMPLE, ("said", pa.string())])


class Engine:
    """In vLLM's place: every answer is the same, but a request for 13 tokens fails and one for 12 is not accepted."""

    says = "Yes."

    def __init__(self, failure: type[Exception] = RuntimeError, at_once: int = 4) -> None:
        self.failure, self.asked, self.now, self.most = failure, list[Any](), 0, 0
        self.vllm_config = SimpleNamespace(
            scheduler_config=SimpleNamespace(max_num_seqs=at_once),
            parallel_config=SimpleNamespace(pipeline_parallel_size=1),
        )

    async def generate(
        self, prompt: Any, sampling_params: Any, request_id: str, lora_request: Any = None
    ) -> AsyncIterator[Any]:
        from vllm.exceptions import VLLMValidationError

        self.asked.append((prompt, sampling_params, request_id))
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        if sampling_params.max_tokens == 13:
            raise self.failure("the engine\nfailed")
        if sampling_params.max_tokens == 12:
            raise VLLMValidationError("too much\nasked for")
        likely = [{id: SimpleNamespace(logprob=-float(id)) for id in sampling_params.logprob_token_ids or []}]
        ended = "length" if sampling_params.max_tokens == len(self.says) else "stop"
        ranked = likely if sampling_params.logprob_token_ids else None
        written = SimpleNamespace(text=self.says, token_ids=[1, 2], logprobs=ranked, finish_reason=ended)
        yield SimpleNamespace(outputs=[written], num_cached_tokens=0)


class Say(PromptStep):
    """Renders a real template and keeps the answer."""

    name = "say"
    reads = (*READS, "verdict")
    adds = (pa.field("said", pa.string()),)

    async def run(self, row: Row, ask: Ask) -> None:
        prompt = render(load("critique"), row | {"instruction": damage(row)}, verdict=row["verdict"])
        tokens = 13 if "unlucky" in prompt else 12 if "greedy" in prompt else 8
        row["said"] = (await ask(prompt, max_tokens=tokens)).text


def damage(row: Row) -> str:
    """The instruction; a parquet file cannot hold half of a surrogate pair, a step may make one."""
    return row["instruction"].replace("<half>", "\ud83d")


class Standin(PromptStage):
    """The real stage, but for the engine."""

    def __init__(self, tokenizer: Any, engine: Any) -> None:
        super().__init__("standin", EngineConfig(), [Say()])
        self.made = EngineAsk(engine, tokenizer, 4000)

    def connect(self) -> Ask:
        return self.made


def actor(tokenizer: Any, engine: Any) -> StepActor:
    return StepActor(Standin(tokenizer, engine), SCHEMA)


def answer(made: Any, rows: list[Row]) -> list[Row]:
    async def collect() -> list[pa.Table]:
        return [table async for table in made(to_table(rows, SCHEMA))]

    (table,) = asyncio.run(collect())
    return table.to_pylist()


def row(number: int, **changes: Any) -> Row:
    said = {"instruction": f"Say {number}.", "responses": ["a", "b"], "allowed": ["A", "B"], "verdict": "A"}
    return (
        dict.fromkeys(SCHEMA.names) | {"row_id": f"r{number:02d}", "task": "pairwise", "status": "ok"} | said | changes
    )


def test_a_bad_row_of_sixty_four_ends_with_its_reason_and_the_others_are_answered(tokenizer: Any) -> None:
    rows = [row(number) for number in range(64)]
    bad = {
        7: ({"instruction": "greedy"}, "error:say:not_accepted_by_the_engine:too much asked for"),
        13: ({"instruction": "word " * 1000}, "filtered:too_long"),
        21: ({"instruction": "w" * 1_000_000}, "filtered:too_long"),
        22: ({"instruction": "half <half>"}, "error:say:invalid_unicode:"),
        40: ({"responses": None}, "error:say:no_responses"),
        41: ({"allowed": []}, "error:say:no_allowed"),
        50: ({"status": "filtered:before"}, "filtered:before"),
    }
    odd = {60: {"instruction": "null \x00"}, 61: {"instruction": "{{ 7 * 7 }} {% if %} <|im_end|>"}}
    for number, (change, _) in bad.items():
        rows[number] |= change
    for number, change in odd.items():
        rows[number] |= change
    engine = Engine()
    found = answer(actor(tokenizer, engine), rows)
    assert [one["row_id"] for one in found] == [one["row_id"] for one in rows]
    for number, one in enumerate(found):
        if number in bad:
            assert one["status"].startswith(bad[number][1]) and "\n" not in one["status"]
            assert one["said"] is None
        else:
            assert (one["status"], one["said"]) == ("ok", "Yes.")
    assert len(engine.asked) == 64 - len(bad) + 1  # but for the one that it did not accept, bad rows never reached it
    assert len({request_id for _, _, request_id in engine.asked}) == len(engine.asked)
    assert engine.most == 5  # of 4 that it computes at once, and a tenth more


def test_a_fault_of_the_engine_is_let_through_and_not_noted_against_the_row(tokenizer: Any) -> None:
    with pytest.raises(RuntimeError, match="the engine"):
        answer(actor(tokenizer, Engine()), [row(0, instruction="unlucky")])


def ask(tokenizer: Any, engine: Any, **options: Any) -> Answer:
    return asyncio.run(EngineAsk(engine, tokenizer, 4000)("Well?", **options))


def test_sampling_is_greedy_without_a_seed_unless_there_is_a_temperature(tokenizer: Any) -> None:
    from vllm.sampling_params import RequestOutputKind

    engine = Engine()
    ask(tokenizer, engine, max_tokens=5, seed=7)
    ask(tokenizer, engine, max_tokens=5, seed=7, temperature=0.5, top_p=0.9)
    ask(tokenizer, engine, max_tokens=5, choices=["Yes", "No"], logprobs=3)
    greedy, sampled, chosen = (sampling for _, sampling, _ in engine.asked)
    assert (greedy.temperature, greedy.seed, greedy.logprobs, greedy.structured_outputs) == (0.0, None, None, None)
    assert (sampled.temperature, sampled.top_p, sampled.seed) == (0.5, 0.9, 7)
    assert (chosen.structured_outputs.choice, chosen.logprobs) == (["Yes", "No"], 3)
    assert {one.output_kind for one in (greedy, sampled, chosen)} == {RequestOutputKind.FINAL_ONLY}


def test_choices_are_ranked_by_the_token_that_tells_them_apart(tokenizer: Any) -> None:
    engine = Engine()
    answers = ["Result: B", "Result: A"]
    found = ask(tokenizer, engine, max_tokens=9, rank_choices=answers)
    ((prompt, sampling, _),) = engine.asked
    b, a = encode_text(tokenizer, "BA")
    assert prompt["prompt_token_ids"][-len("Result: ") :] == encode_text(tokenizer, "Result: ")
    assert (sampling.max_tokens, sampling.logprob_token_ids, sampling.logprobs) == (1, [b, a], None)
    assert (found.text, found.top) == ("Result: A", [{"Result: B": -float(b), "Result: A": -float(a)}])


class Thinker(Engine):
    """Thinks aloud first."""

    says = "<think>\nIs it A?\nResult: B\n</think>\n\nResult: A"


def test_thoughts_are_kept_apart_and_counted(tokenizer: Any) -> None:
    found = ask(tokenizer, Thinker(), max_tokens=500)
    assert (found.text, found.thoughts, found.thoughts_cut) == ("Result: A", "Is it A?\nResult: B", False)
    assert found.thought_tokens == len(encode_text(tokenizer, "Is it A?\nResult: B"))


def test_thoughts_that_the_token_limit_cut_are_no_answer(tokenizer: Any) -> None:
    class Cut(Thinker):
        says = "<think>\nResult: B"

    found = ask(tokenizer, Cut(), max_tokens=len(Cut.says))
    assert (found.text, found.thoughts_cut, found.finished) == ("", True, False)


def test_a_choice_from_a_closed_set_is_no_thought(tokenizer: Any) -> None:
    engine: Any = Engine()
    made = EngineAsk(engine, tokenizer, 4000, Thinking("<think>", "</think>", opened=True, expected=True))
    found = asyncio.run(made("Well?", max_tokens=5, choices=["Yes.", "No."]))
    assert (found.text, found.thoughts_cut) == ("Yes.", False)
