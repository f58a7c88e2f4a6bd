"""What an answer may go on with: free text, a label that is written or put there, one allowed verdict."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.engines.llm.ask import Closing
from pipelines.engines.llm.closing import ClosingRequest, closing_request
from pipelines.engines.llm.verdict_rule import Ending, Rule
from pipelines.judging.chat import encode_text, end_of_turn
from pipelines.judging.parse import parse
from pipelines.judging.thoughts import NEVER, Thinking

PLAIN = Closing("Result:", {one: f"Result: {one}" for one in ("1", "2", "10")}, "\n")
BOLD = Closing("**Result:**", {one: f"**Result:** {one}" for one in ("A", "B")})
BRACKETS = Closing("[[", {one: f"[[{one}]]" for one in ("A", "B", "Tie")})
INLINE = Closing("[RESULT]", {one: f"[RESULT] {one}" for one in ("1", "2")}, " ")
THINKS = Thinking("<think>", "</think>", opened=True, expected=True)


def request(tokenizer: Any, closing: Closing, budget: int = 40, thinking: Thinking | None = NEVER) -> ClosingRequest:
    return closing_request(tokenizer, closing, budget, thinking)


class Answer:
    """An answer that is written byte by byte."""

    def __init__(
        self, tokenizer: Any, closing: Closing, budget: int = 40, thinking: Thinking | None = NEVER, said: str = ""
    ) -> None:
        self.tokenizer, self.end = tokenizer, end_of_turn(tokenizer)
        self.tokens: list[int] = []

        def speller() -> Any:
            return lambda token: tokenizer.decode([token])

        ending = Ending.read(request(tokenizer, closing, budget, thinking).ending.values())
        self.rule = Rule(ending, self.tokens, speller, lambda text: encode_text(tokenizer, text))
        self.write(said)

    def write(self, text: str) -> Answer:
        for token in encode_text(self.tokenizer, text):
            allowed = self.rule.allowed()
            assert allowed is None or token in allowed, (self.text, text)
            self.tokens.append(token)
        return self

    @property
    def free(self) -> bool:
        return self.rule.allowed() is None

    @property
    def next(self) -> list[str]:
        """What may follow, in text; `.` for the end of the turn."""
        return [
            "." if token == self.end else self.tokenizer.decode([token]) for token in self.rule.allowed() or ()
        ]

    @property
    def text(self) -> str:
        return str(self.tokenizer.decode([token for token in self.tokens if token != self.end]))

    def ended(self, choice: int = 0) -> str:
        """The whole answer, where the model would end its turn now."""
        if self.rule.allowed() is None:
            self.rule.close(len(self.tokens))
        while self.end not in self.tokens:
            allowed = self.rule.allowed()
            assert allowed
            self.tokens.append(allowed[choice % len(allowed)])
        return self.text


@pytest.mark.parametrize(
    "said", ["Fine.", "", "Result", "\nNo result: none", "See Result:", "Result: x"[:6], "The end\nresults:"]
)
def test_text_is_free_until_the_label_stands_on_a_line_of_its_own(tokenizer: Any, said: str) -> None:
    assert Answer(tokenizer, PLAIN, said=said).free


@pytest.mark.parametrize(
    ("closing", "said"),
    [
        (PLAIN, "Result:"),
        (PLAIN, "Fine.\nResult:"),
        (PLAIN, "Fine.\n  Result:"),
        (PLAIN, "Fine.\n**Final verdict**:"),
        (BOLD, "Fine.\n\n**Result:**"),
        (BOLD, "Fine.\n\nResult:"),
        (BRACKETS, "Fine.\n[["),
        (INLINE, "Fine. [RESULT]"),
    ],
)
def test_a_label_that_the_model_writes_is_followed_by_a_verdict(tokenizer: Any, closing: Closing, said: str) -> None:
    answer = Answer(tokenizer, closing, said=said)
    assert not answer.free
    assert answer.ended() in [f"{said}{gap}{said_so}" for gap in ("", " ") for said_so in ("1", "A", "A]]")]


def test_a_label_in_bold_may_be_closed_first(tokenizer: Any) -> None:
    assert set(Answer(tokenizer, PLAIN, said="*Result:").next) == {" ", "*"}
    assert Answer(tokenizer, PLAIN, said="*Result:").write("*").next == [" "]
    assert Answer(tokenizer, PLAIN, said="*Result*:").next == [" "]


def test_one_verdict_may_begin_another(tokenizer: Any) -> None:
    answer = Answer(tokenizer, PLAIN, said="Result: ")
    assert answer.next == ["1", "2"]
    assert answer.write("1").next == [".", "0"]
    assert answer.write("0").next == ["."]


@pytest.mark.parametrize(
    ("closing", "said", "whole"),
    [
        (PLAIN, "", "Result: 1"),
        (PLAIN, "Fine.", "Fine.\nResult: 1"),
        (PLAIN, "Fine.\n", "Fine.\nResult: 1"),
        (PLAIN, "Fine.\nRes", "Fine.\nResult: 1"),
        (PLAIN, "\n", "\nResult: 1"),
        (BOLD, "Fine.", "Fine.\n\n**Result:** A"),
        (BOLD, "Fine.\n\n*", "Fine.\n\n**Result:** A"),
        (BRACKETS, "Fine.", "Fine.\n\n[[A]]"),
        (INLINE, "Fine.\n", "Fine.\n [RESULT] 1"),
    ],
)
def test_the_label_is_put_where_the_model_would_end(tokenizer: Any, closing: Closing, said: str, whole: str) -> None:
    assert Answer(tokenizer, closing, said=said).ended() == whole


def test_the_label_is_put_there_when_the_budget_is_spent(tokenizer: Any) -> None:
    answer = Answer(tokenizer, PLAIN, budget=5, said="Well,")
    assert not answer.free
    assert answer.ended() == "Well,\nResult: 1"


def test_thoughts_hold_no_label_and_are_ended_first(tokenizer: Any) -> None:
    answer = Answer(tokenizer, PLAIN, thinking=THINKS, said="Hm.\nResult: 2\nor")
    assert answer.free
    assert answer.ended() == "Hm.\nResult: 2\nor</think>\nResult: 1"
    answer = Answer(tokenizer, PLAIN, 60, THINKS, said="Hm.\nResult: 2</think>\n\nResult:")
    assert answer.next == [" "]
    assert Answer(tokenizer, PLAIN, 60, THINKS, said="Hm.</think>\n\nFine.").ended().endswith("</think>\n\nFine.\nResult: 1")


def test_a_model_that_is_not_known_to_think_may_begin_with_a_mark(tokenizer: Any) -> None:
    answer = Answer(tokenizer, PLAIN, thinking=None, said="[THINK]Result: 2")
    assert answer.free
    assert answer.ended() == "[THINK]Result: 2[/THINK]\nResult: 1"
    assert not Answer(tokenizer, PLAIN, thinking=None, said="I <think>\nResult:").free


def test_tokens_that_the_engine_takes_back_are_forgotten(tokenizer: Any) -> None:
    answer = Answer(tokenizer, PLAIN, said="Fine.\nResult:")
    assert not answer.free
    del answer.tokens[5:]
    assert answer.free
    assert answer.write(" So\nResult:").next == [" "]


def test_a_malformed_ending_is_refused(tokenizer: Any) -> None:
    values = request(tokenizer, PLAIN).ending.values()
    for change in ({"label": ""}, {"paths": ()}, {"start": ("a",)}, {"ends": ()}, {"budget": "x"}, {"text": 3}):
        with pytest.raises(ValueError):
            Ending.read(values | change)
    for wrong in (None, 3, "x", [], {}):
        with pytest.raises(ValueError, match="not an ending"):
            Ending.read(wrong)


PIECES = ["a", ".", "\n", "Result", ":", "Res", "**", "[[", "A", "1", "Final verdict:", "<think>", "</think>", " ", "END"]


@pytest.mark.parametrize("closing", [PLAIN, BOLD, BRACKETS, INLINE])
@pytest.mark.parametrize("thinking", [NEVER, None, THINKS])
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_whatever_the_model_does_an_answer_ends_with_an_allowed_verdict(
    tokenizer: Any, closing: Closing, thinking: Thinking | None, data: Any
) -> None:
    budget = data.draw(st.integers(1, 30))
    wanted = request(tokenizer, closing, budget, thinking)
    answer = Answer(tokenizer, closing, budget, thinking)
    pieces = list(data.draw(st.lists(st.sampled_from(PIECES), max_size=20)))
    while answer.free:
        piece = pieces.pop(0) if pieces else "END"
        if piece == "END":
            break
        for token in encode_text(tokenizer, piece):
            if answer.free:
                answer.tokens.append(token)
    text = answer.ended(data.draw(st.integers(0, 3)))
    assert len(answer.tokens) <= wanted.most
    verdict = next(one for one in closing.endings if text.endswith(closing.endings[one][len(closing.label) :].strip()))
    if thinking == NEVER and closing is not INLINE:
        assert parse(text, list(closing.endings)).verdict in closing.endings
        before = closing.before(text, verdict)
        assert text.startswith(before)
