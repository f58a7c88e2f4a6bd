"""Thoughts and answer: what is parted, what is cut off, and what merely mentions a mark."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.judging.parse import parse
from pipelines.judging.thoughts import MARKS, NEVER, Listening, Parted, Thinking, part, thinking_of
from tests.judging.test_chat import IM, byte_tokenizer

THINK = Thinking("<think>", "</think>")
OPENED = Thinking("<think>", "</think>", opened=True, expected=True)


@pytest.mark.parametrize("marks", MARKS)
@pytest.mark.parametrize("known", [True, False])
def test_the_common_marks_are_known(marks: tuple[str, str], known: bool) -> None:
    start, end = marks
    thinking = Thinking(*marks) if known else None
    assert part(f"{start}\nIs it B?\n{end}\n\nResult: A", thinking) == Parted("Is it B?", "Result: A")
    assert part(f" {start}Is it B?\nResult: B", thinking) == Parted("Is it B?\nResult: B", "", cut=True)
    assert part(f"{start}\n\n{end}\n\nResult: A", thinking) == Parted("", "Result: A")


def test_marks_of_one_s_own() -> None:
    thinking = Thinking("((", "))", expected=True)
    assert part("((hm)) Result: A", thinking) == Parted("hm", "Result: A")
    assert part("((hm", thinking).cut


def test_thoughts_that_the_prompt_opened_have_no_start() -> None:
    assert part("Hm.\n</think>\n\nResult: A", OPENED) == Parted("Hm.", "Result: A")
    assert part("Hm. Result: B", OPENED, finished=False) == Parted("Hm. Result: B", "", cut=True)
    assert part("Hm. Result: B", OPENED).cut
    # Of a model behind an endpoint nothing is known; no prose has an end mark alone on its line.
    assert part("Hm.\n</think>\n\nResult: A", None) == Parted("Hm.", "Result: A")


def test_an_expected_end_that_is_missing_at_the_token_limit_means_no_answer() -> None:
    expected = Thinking("<think>", "</think>", expected=True)
    assert part("Hm. Result: B", expected, finished=False).cut
    assert part("Result: B", expected, finished=True) == Parted("", "Result: B")


@pytest.mark.parametrize("thinking", [None, THINK, NEVER])
def test_text_that_mentions_a_mark_is_text(thinking: Thinking | None) -> None:
    text = "Response A leaks a <think> tag, and </think> too.\nResult: B"
    assert part(text, thinking) == Parted("", text)


def test_what_is_said_never_to_think_is_all_answer() -> None:
    assert part("<think>x</think>Result: A", NEVER) == Parted("", "<think>x</think>Result: A")


@pytest.mark.parametrize("thinking", [THINK, None])
def test_an_end_before_a_blank_line_is_a_mark_though_thoughts_stand_on_its_line(thinking: Thinking | None) -> None:
    assert part("Hm.\nResult: B</think>\n\nBoth fail.", thinking) == Parted("Hm.\nResult: B", "Both fail.")
    assert part("It leaks </think> here.\n\nResult: B", thinking).thoughts == ""


def test_several_thoughts_at_the_beginning_are_all_thoughts() -> None:
    assert part("<think>a</think>\n<think>b</think>Result: A", THINK) == Parted("a\n\nb", "Result: A")
    assert part("<think>a</think>\n<think>b", THINK).cut


def test_a_verdict_in_thoughts_is_never_read() -> None:
    parted = part("<think>\nResult: B\n</think>\nBoth fail.", THINK)
    assert parse(parted.answer, ("A", "B")).status == "no_verdict"


def test_marks_are_found_in_the_chat_template_or_the_vocabulary() -> None:
    tokenizer = byte_tokenizer("im")
    assert thinking_of("auto", tokenizer) is None
    assert thinking_of("none", tokenizer) == NEVER
    assert thinking_of(("((", "))"), tokenizer) == Thinking("((", "))", expected=True)
    tokenizer.add_tokens(["[THINK]", "[/THINK]"])
    assert thinking_of("auto", tokenizer) == Thinking("[THINK]", "[/THINK]")
    tokenizer.chat_template = IM.replace("assistant\n{%", "assistant\n<think>\n{%")
    assert thinking_of("auto", tokenizer) == OPENED
    assert thinking_of("auto") is None


@pytest.mark.parametrize("thinking", [None, NEVER, Thinking("<think>", "</think>", opened=True, expected=True)])
@given(
    pieces=st.lists(
        st.sampled_from(["a", "\n", " ", "<think>", "</thi", "nk>", "</think>", "[THINK]", "<"]), max_size=9
    )
)
def test_thoughts_are_told_apart_while_they_are_written(thinking: Thinking | None, pieces: list[str]) -> None:
    heard = Listening(thinking, finished=True)
    for count, piece in enumerate(pieces, 1):
        heard.hear(piece)
        if heard.settled:
            break
        parted = part("".join(pieces[:count]), thinking)
        assert (heard.answer, heard.open) == (parted.answer, parted.cut)
