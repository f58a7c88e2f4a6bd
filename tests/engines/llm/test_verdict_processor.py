"""The logits processor on made-up logits: rows that come, move, swap, leave and come back; rows of others untouched."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.engines.llm.ask import Closing
from pipelines.engines.llm.closing import closing_request
from pipelines.judging.chat import encode_text, end_of_turn
from pipelines.judging.thoughts import NEVER

# Seconds: vLLM is imported.
pytestmark = pytest.mark.integration

CLOSING = Closing("Result:", {one: f"Result: {one}" for one in ("1", "2", "10")}, "\n")


class Request:
    """A request whose model wants to write a text and then end its turn, whatever else is written in between."""

    def __init__(
        self, tokenizer: Any, wants: str, budget: int = 60, *, closes: bool = True, temperature: float = 0
    ) -> None:
        from vllm import SamplingParams

        asked = closing_request(tokenizer, CLOSING, budget, NEVER)
        self.params = SamplingParams(**asked.sampling() if closes else {}, temperature=temperature)
        self.tokenizer, self.end = tokenizer, end_of_turn(tokenizer)
        self.wants = [*encode_text(tokenizer, wants), self.end]
        self.tokens: list[int] = []

    @property
    def wanted(self) -> int:
        return self.wants[min(len(self.tokens), len(self.wants) - 1)]

    @property
    def text(self) -> str:
        return str(self.tokenizer.decode([token for token in self.tokens if token != self.end]))


class Batch:
    """An engine's batch around the real processor."""

    def __init__(self, tokenizer: Any) -> None:
        import torch

        from pipelines.engines.llm.verdict_processor import Text, VerdictProcessor

        self.size, self.torch = len(tokenizer), torch
        self.processor = VerdictProcessor(SimpleNamespace(model_config=None), torch.device("cpu"), False)  # type: ignore[arg-type]
        self.processor.text = Text(tokenizer)
        self.rows: dict[int, Request] = {}

    def update(self, *, added: dict[int, Request] | None = None, removed: Any = (), moved: Any = ()) -> None:
        from vllm.v1.sample.logits_processor import BatchUpdate, MoveDirectionality

        for row in removed:
            del self.rows[row]
        self.rows |= added or {}
        for first, second, swap in moved:
            if swap:
                self.rows[first], self.rows[second] = self.rows[second], self.rows[first]
            else:
                self.rows[second] = self.rows.pop(first)
        ways = {True: MoveDirectionality.SWAP, False: MoveDirectionality.UNIDIRECTIONAL}
        self.processor.update_state(
            BatchUpdate(
                batch_size=len(self.rows),
                removed=list(removed),
                added=[(row, one.params, None, one.tokens) for row, one in (added or {}).items()],
                moved=[(first, second, ways[swap]) for first, second, swap in moved],
            )
        )

    def logits(self) -> Any:
        self.torch.manual_seed(0)
        logits = self.torch.randn(max(self.rows) + 1, self.size)
        for row, one in self.rows.items():
            logits[row, one.wanted] = 9.0
        return logits

    def step(self, keep: Callable[[int], bool] = lambda row: True) -> None:
        """One token for each row; where it is not kept, as in a part of a long prompt, nothing comes of it."""
        chosen = self.processor.apply(self.logits()).argmax(-1).tolist()
        for row, one in self.rows.items():
            if keep(row) and one.end not in one.tokens:
                one.tokens.append(chosen[row])

    def finish(self) -> None:
        for _ in range(80):
            self.step()


def test_an_answer_that_ends_well_by_itself_is_left_as_it_is(tokenizer: Any) -> None:
    batch, one = Batch(tokenizer), Request(tokenizer, "Reasoning: fine\nResult: 10")
    batch.update(added={0: one})
    batch.finish()
    assert one.tokens == one.wants


def test_the_label_is_put_there_in_place_of_an_end_and_when_the_budget_is_spent(tokenizer: Any) -> None:
    batch = Batch(tokenizer)
    ends, wanders, other = (Request(tokenizer, text, 12) for text in ("Fine.", "word " * 30, "a\nResult: 7"))
    batch.update(added={0: ends, 1: wanders, 2: other})
    batch.finish()
    assert ends.text.removesuffix("0") in ("Fine.\nResult: 1", "Fine.\nResult: 2")
    assert wanders.text[:20] == "word word wo\nResult:"
    assert other.text.startswith("a\nResult: ") and "7" not in other.text


def test_other_rows_are_not_touched_and_a_batch_without_an_ending_is_not_looked_at(tokenizer: Any) -> None:
    batch = Batch(tokenizer)
    batch.update(added={0: Request(tokenizer, "", closes=False)})
    assert batch.processor.rows == {}
    logits = batch.logits()
    assert batch.processor.apply(logits) is logits and logits.equal(batch.logits())
    batch.update(added={1: Request(tokenizer, "Fine.")})
    logits = batch.processor.apply(batch.logits())
    assert logits[0].equal(batch.logits()[0]) and not logits[1].equal(batch.logits()[1])


def test_sampling_can_end_no_turn_and_choose_no_other_verdict(tokenizer: Any) -> None:
    batch, one = Batch(tokenizer), Request(tokenizer, "Fine.\nResult: 10", temperature=1)
    batch.update(added={0: one})
    end = end_of_turn(tokenizer)
    likely = batch.processor.apply(batch.logits()).softmax(-1)
    assert likely[0, end] == 0 and likely.isfinite().all()
    one.tokens += encode_text(tokenizer, "Fine.\nResult: 1")
    likely = batch.processor.apply(batch.logits()).softmax(-1)
    zero = encode_text(tokenizer, "0")[0]
    assert likely[0, end] > 0 and likely[0, [end, zero]].sum() == pytest.approx(1)
    one.tokens.append(zero)
    likely = (batch.processor.apply(batch.logits()) / 0.01).softmax(-1)
    assert likely[0, end] == 1


def test_rows_may_move_swap_leave_and_be_replaced(tokenizer: Any) -> None:
    batch = Batch(tokenizer)
    texts = ["a\nResult: 1", "bb\nResult: 2", "ccc\nResult: 10", "dddd\nResult: 2"]
    first, second, third, fourth = (Request(tokenizer, text) for text in texts)
    batch.update(added={0: first, 1: second, 2: third})
    for _ in range(3):
        batch.step()
    batch.update(moved=[(0, 2, True)])
    batch.step()
    batch.update(removed=[1], moved=[(2, 1, False)])
    for _ in range(2):
        batch.step()
    batch.update(added={2: fourth})
    batch.finish()
    assert [one.text for one in (first, third, fourth)] == [texts[0], texts[2], texts[3]]
    assert len(second.tokens) == 4
    batch.update(added={0: Request(tokenizer, "x", closes=False)})  # in the place of another
    assert sorted(batch.processor.rows) == [1, 2]


def changes_its_mind(tokenizer: Any) -> Request:
    """It would end its turn, and then, once a line has been begun for it, write on."""
    one = Request(tokenizer, "A paragraph.")
    one.wants += encode_text(tokenizer, "Another paragraph.")
    return one


@pytest.mark.parametrize("stop", range(10, 22))
def test_a_request_that_comes_back_goes_on_as_if_it_had_never_left(tokenizer: Any, stop: int) -> None:
    whole, batch = changes_its_mind(tokenizer), Batch(tokenizer)
    batch.update(added={0: whole})
    batch.finish()
    assert whole.text.startswith("A paragraph.\nResult: ")
    one, batch = changes_its_mind(tokenizer), Batch(tokenizer)
    batch.update(added={0: one})
    for _ in range(stop):
        batch.step()
    batch.update(removed=[0])
    one.tokens = list(one.tokens)  # another list: that is how asynchronous scheduling brings it back
    batch.update(added={0: one})
    batch.step(keep=lambda row: False)  # its prompt and what it had written are computed again, in parts
    batch.finish()
    assert one.tokens == whole.tokens


def test_an_end_that_the_model_wants_in_a_part_of_the_prompt_counts_for_nothing(tokenizer: Any) -> None:
    batch, one = Batch(tokenizer), Request(tokenizer, "")
    batch.update(added={0: one})
    batch.step(keep=lambda row: False)
    one.wants = [*encode_text(tokenizer, "Fine.\nResult: 2"), one.end]
    batch.finish()
    assert one.text == "Fine.\nResult: 2"


def test_a_malformed_ending_never_reaches_the_engine(tokenizer: Any) -> None:
    from vllm import SamplingParams

    from pipelines.engines.llm.verdict_processor import ENDING, VerdictProcessor

    VerdictProcessor.validate_params(SamplingParams())
    VerdictProcessor.validate_params(Request(tokenizer, "").params)
    with pytest.raises(ValueError, match="not an ending"):
        VerdictProcessor.validate_params(SamplingParams(extra_args={ENDING: {"label": "x"}}))


def test_bytes_that_are_no_text_do_not_stop_the_reading(tokenizer: Any) -> None:
    from pipelines.engines.llm.verdict_processor import Text

    spell = Text(tokenizer).speller()
    heart = encode_text(tokenizer, "é漢")
    assert "".join(map(spell, [*heart[1:2], *encode_text(tokenizer, "ab"), *heart])).endswith("abé漢")
