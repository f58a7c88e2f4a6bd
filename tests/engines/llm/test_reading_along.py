"""An answer while it is written: nothing that is shown is taken back, and no thought or ending is shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engines.llm.ask import Closing
from pipelines.engines.llm.reading_along import CritiqueAlong, ReadingAlong
from pipelines.judging.parse import strip_label
from pipelines.judging.thoughts import NEVER, Thinking, part

BOLD = Closing("**Result:**", {"A": "**Result:** A"})
BRACKETS = Closing("[[", {"A": "[[A]]"})
INLINE = Closing("[RESULT]", {"A": "[RESULT] A"}, " ")
OPENED = Thinking("<think>", "</think>", opened=True, expected=True)
WRITES = Thinking("<think>", "</think>")


def read(text: str, thinking: Thinking | None, closing: Closing | None = None, size: int = 1) -> list[str]:
    """What is shown of a text that comes in pieces of some characters, before its end is known."""
    heard: list[str] = []
    along = ReadingAlong(heard.append, thinking, closing)
    for place in range(0, len(text), size):
        along.hear(text[place : place + size])
    return heard


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("closing", "ending", "certain"),
    [
        (BOLD, "\n\n**Result:** A", "It is fine"),
        (BOLD, "\n\nResult: A", "It is fine"),
        (BOLD, "\n\nResult:\nA", "It is fine"),
        (BOLD, "\n\n**Resu", "It is fine"),
        (BOLD, "\n\nMy fin", "It is fine"),
        (BOLD, "\n\nMy fine day", "It is fine\n\nMy fine day"),
        (BRACKETS, "\n\n[[A]]", "It is fine"),
        (INLINE, " [RESULT] A", "It is fine"),
        (INLINE, " [RES", "It is fine"),
        (INLINE, " [REST", "It is fine [REST"),
    ],
)
def test_what_may_be_the_ending_is_held_back(closing: Closing, ending: str, certain: str, size: int) -> None:
    assert "".join(read(f"It is fine{ending}", NEVER, closing, size)) == certain


@pytest.mark.parametrize("size", [1, 4, 100])
@pytest.mark.parametrize(
    ("thinking", "text", "shown"),
    [
        (OPENED, "Hm.\nResult: A", ""),
        (OPENED, "Hm.</think>\n\nFine.", "Fine."),
        (WRITES, "<think>Hm.</think>\n\nFine.", "Fine."),
        (WRITES, "<think>Hm.", ""),
        (None, "<reasoning>Hm.</reasoning>Fine.", "Fine."),
        (WRITES, "Fine.", "Fine."),
        (NEVER, "<think>Fine.", "<think>Fine."),
    ],
)
def test_thoughts_are_not_shown(thinking: Thinking | None, text: str, shown: str, size: int) -> None:
    assert "".join(read(text, thinking, size=size)) == shown


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("critique", ["**Reasoning:** It is fine.", "It is fine.", "Reasoned well.", "Feedback: ", "*"])
def test_a_critique_is_shown_without_its_label(critique: str, size: int) -> None:
    heard: list[str] = []
    along = CritiqueAlong(heard.append)
    for place in range(0, len(critique), size):
        along.hear(critique[place : place + size])
    along.end(strip_label(critique))
    assert "".join(heard) == strip_label(critique)


PIECES = [
    "a",
    "The ",
    "\n",
    " ",
    "*",
    "**Result:**",
    "Result",
    ":",
    "My final",
    "[[",
    "[RES",
    "ULT]",
    "<think>",
    "</think>",
]


@given(
    pieces=st.lists(st.sampled_from([*PIECES, "Reasoning: "]), max_size=12),
    thinking=st.sampled_from([NEVER, None, OPENED]),
)
@pytest.mark.parametrize("closing", [BOLD, BRACKETS, INLINE])
def test_whatever_is_shown_is_the_beginning_of_the_answer(closing: Closing, pieces: list[str], thinking: Any) -> None:
    heard: list[str] = []
    along = ReadingAlong(heard.append, thinking, closing)
    for piece in pieces:
        along.hear(piece)
    answer = part("".join(pieces), thinking).answer
    if "</think>" not in pieces or thinking is not None:  # an end alone makes thoughts of what stood before it
        assert answer.startswith("".join(heard))
