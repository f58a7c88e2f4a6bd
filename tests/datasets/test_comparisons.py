"""Comparing and looking up: a text is no number and no list, NaN is not less, and a label of -1 is not the last one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pipelines.datasets.expressions import check, evaluate

RECORD = {
    "ten": "10",
    "nine": "9",
    "na": "N/A",
    "date": "2024-05-01",
    "three": 3,
    "nan": math.nan,
    "none": None,
    "false": "False",
    "missing": -1,
    "text": "Yes",
    "turns": ["first", "last"],
    "scored": [{"s": "10"}, {"s": "9"}],
    "measured": [{"s": 1.0}, {"s": math.nan}],
}


def value(text: str) -> Any:
    return evaluate(text, {"record": RECORD})


@pytest.mark.parametrize(
    "text",
    [
        "'A' if record.ten > record.nine else 'B'",
        "'A' if record.na > record.nine else 'B'",
        "1 < 2 <= record.nan",
        "'A' if record.nan > 1 else 'B'",
        "[record.ten, record.nine] | max",
        "[record.ten, record.nine] | sort | first",
        "[record.nan, 1] | min",
        "(record.scored | sort(attribute='s') | last).s",
        "(record.measured | max(attribute='s')).s",
        "record.scored | selectattr('s', 'gt', '5') | list",
    ],
)
def test_texts_of_numbers_and_nan_have_no_order(text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=r"letter by letter|NaN"):
        value(text)


@pytest.mark.parametrize(
    "text",
    [
        "'A' if record.nine == 9 else 'B'",
        "'A' if 9.0 != record.nine else 'B'",
        "record.nine in [9, 10]",
        "record.three not in ['3', '4']",
        "record.false == false",
        "record.scored | selectattr('s', 'equalto', 10) | list",
    ],
)
def test_a_text_and_a_number_that_look_alike_are_not_silently_different(text: str) -> None:
    with pytest.raises(TypeError, match="never equal"):
        value(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("record.ten | float > record.nine | float", True),
        ("record.date > '2023-12-31'", True),
        ("record.three >= 3 and record.three < 3.5", True),
        ("record.three == 'tie' or record.three in ['tie', 3]", True),
        ("record.none == 1 or record.none is none", True),
        ("record.text == 'Yes' and record.text in ['No', 'Yes'] and 'e' in record.text", True),
        ("['b', 'a'] | sort | first", "a"),
        ("[{'s': 2}, {'s': 1}] | min(attribute='s')", {"s": 1}),
        ("{-1: 'B', 1: 'A'}[record.missing]", "B"),
        ("record.turns[-1] ~ record.turns[0]", "lastfirst"),
        ("record.turns[record.three - 2]", "last"),
        ("record.text[:1]", "Y"),
    ],
)
def test_what_can_be_compared_or_looked_up_is(text: str, expected: Any) -> None:
    assert value(text) == expected


def test_a_label_below_zero_is_no_place_in_a_list() -> None:
    for text in ("['A', 'B', 'Tie'][record.missing]", "record.turns[record.missing]"):
        with pytest.raises(ValueError, match="-1 is no place in a list"):
            value(text)


@pytest.mark.parametrize("text", ["record.text[0]", "record.text | first", "record.text | last", "record.text | list"])
def test_a_letter_is_no_member(text: str) -> None:
    with pytest.raises(TypeError, match="where a list is needed"):
        value(text)


@pytest.mark.parametrize("text", ["'A' if record.three > 5", "[] | first"])
def test_what_is_not_there_without_a_name_is_told_in_words(text: str) -> None:
    with pytest.raises(Exception, match=r"no else section|sequence was empty"):
        value(text)


@pytest.mark.parametrize(
    "text", ["record.ten | int(0)", "record.ten | float(default=0)", "record.ten | join('a', 'b')"]
)
def test_arguments_that_a_filter_does_not_take_are_found_before_the_run(text: str) -> None:
    with pytest.raises(ValueError, match="the filter"):
        check(text, ["record"])
    check("record.turns | join(', ') | replace('a', 'b') | default('x', true)", ["record"])


@pytest.mark.parametrize("text", ["{3: 'A'}['3']", "{'3': 'A'}[record.three]", "{'3': 'A'}[3.0]", "{'4.5': 'A'}[4.5]"])
def test_a_key_of_another_kind_is_told_apart_from_a_missing_one(text: str) -> None:
    with pytest.raises(TypeError, match="never equal"):
        value(text)


@pytest.mark.parametrize(
    "text",
    [
        "'Yes' if record.none else 'No'",
        "'A' if record.none == 'model_a' else 'B'",
        "'A' if record.blank == 'model_a' else 'B' if record.blank == 'model_b' else 'Tie'",
        "'Yes' if record.none in ['good', 'fine'] else 'No'",
        "'Yes' if not record.nan == 1 else 'No'",
        "'Yes' if record.text == 'Yes' and record.none else 'No'",
        "'Yes' if record.none is string else 'No'",
        "1 if record.none else 0",
    ],
)
def test_a_missing_label_is_none_of_two_constants(text: str) -> None:
    with pytest.raises(ValueError, match=r"a missing value \((null|NaN)\) where it would choose a constant"):
        evaluate(f"{{'verdict': {text}}}", {"record": {**RECORD, "blank": " "}})


def test_other_choices_may_ask_whether_a_value_is_there() -> None:
    assert value("{'task': 'pairwise' if record.none else 'classify'}") == {"task": "classify"}
    with pytest.raises(ValueError, match="a missing value"):
        value("{'task': 'pairwise' if record.none == 'two' else 'classify'}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'Yes' if record.none is none else 'No'", "Yes"),
        ("'Yes' if record.none == none else 'No'", "Yes"),
        ("'Yes' if record.blank == '' else 'No'", "Yes"),
        ("'No' if record.turns[2:] else 'Yes'", "Yes"),
        ("record.text if record.none else none", None),
        ("'Yes' if record.blank == record.text else 'No'", "No"),
    ],
)
def test_asking_for_what_is_missing_stays_possible(text: str, expected: Any) -> None:
    assert evaluate(text, {"record": {**RECORD, "blank": ""}}) == expected


def test_bytes_are_no_label() -> None:
    with pytest.raises(TypeError, match="never equal to bytes"):
        evaluate("'A' if record.b == 'A' else 'B'", {"record": {"b": b"A"}})
    assert evaluate("record.b.decode() == 'A'", {"record": {"b": b"A"}}) is True
