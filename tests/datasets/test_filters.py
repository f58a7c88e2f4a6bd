"""Filters and operators of expressions: right values as the user means them, and an error in place of any other."""

from __future__ import annotations

import datetime
import math
from decimal import Decimal
from typing import Any

import pytest

from pipelines.datasets.expressions import check, evaluate

RECORD = {
    "null": None,
    "empty": "",
    "letter": "B",
    "na": "N/A",
    "nan": math.nan,
    "inf": math.inf,
    "true": True,
    "list": ["a", None],
    "dict": {"a": 1},
    "one": 1,
    "half": 2.5,
    "digits": "4",
    "date": datetime.date(2024, 5, 1),
    "bytes": b"text",
    "big": 2.0**53,
}
TRUE_AND_FALSE = [{"ok": True, "n": 1}, {"ok": False, "n": 2}]


def value(text: str) -> Any:
    return evaluate(text, {"record": RECORD})


@pytest.mark.parametrize("name", ["int", "float", "round", "abs"])
@pytest.mark.parametrize(
    "key", ["null", "empty", "letter", "na", "nan", "inf", "true", "list", "dict", "date", "bytes"]
)
def test_what_is_no_number_does_not_become_one(name: str, key: str) -> None:
    with pytest.raises((TypeError, ValueError)):
        value(f"record.{key} | {name}")


@pytest.mark.parametrize("name", ["int", "float"])
@pytest.mark.parametrize("written", ["4_5", "1_000"])
def test_an_underscore_is_no_part_of_a_number(name: str, written: str) -> None:
    with pytest.raises(ValueError, match="as a number"):
        value(f"'{written}' | {name}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'4' | int", 4),
        ("' 4 ' | int", 4),
        ("4.0 | int", 4),
        ("'-1' | int", -1),
        ("'2.5' | float", 2.5),
        ("'9007199254740993' | int", 9007199254740993),
        ("2.5 | round | int", 2),
        ("2.345 | round(2)", 2.35),
        ("2.1 | round(0, 'ceil')", 3.0),
        ("['1', 2, 3.0] | mean", 2.0),
        ("record.one ~ '/' ~ record.half ~ '/' ~ record.digits", "1/2.5/4"),
        ("['a', 1, 2.0] | join('-')", "a-1-2"),
        ("'%s is %.1f' | format('x', 2.25)", "x is 2.2"),
        ("'%s' % record.digits", "4"),
        ("'Aé<' | tojson", '"Aé<"'),
        ("record.half | string", "2.5"),
        (
            "[['X', 'X is', 'big'], ['X', 'It is'], ['X']] | map('unrepeated') | map('join', ' ') | join('/')",
            "X is big/X It is/X",
        ),
        ("'yes' if record.true else 'no'", "yes"),
        ("'none' if not record.null else 'some'", "none"),
        ("record.null or 'x'", "x"),
        ("'ok' if record.one is number and record.true is not number else 'wrong'", "ok"),
    ],
)
def test_values_as_they_are_meant(text: str, expected: Any) -> None:
    assert value(text) == expected


@pytest.mark.parametrize("text", ["2.5 | int", "'2.5' | int", "record.gone | int", "[] | mean", "['x'] | mean"])
def test_a_number_is_never_cut_or_made_up(text: str) -> None:
    with pytest.raises(Exception):  # noqa: B017  (MissingValue, ValueError, ZeroDivisionError)
        value(text)


@pytest.mark.parametrize("key", ["null", "nan", "true", "list", "dict", "date", "bytes", "big", "inf", "gone"])
@pytest.mark.parametrize(
    "text",
    [
        "'a ' ~ record.{0}",
        "[record.{0}, 'a'] | join(' ')",
        "record.{0} | string",
        "record.{0} | upper",
        "record.{0} | trim",
        "'x' | replace('x', record.{0})",
        "'%s' | format(record.{0})",
        "'%s' % record.{0}",
        "'{{}}'.format(record.{0})",
    ],
)
def test_nothing_but_texts_and_exact_numbers_becomes_text(text: str, key: str) -> None:
    if key == "true" and "replace" in text:
        return  # a switch is a fair argument
    if key == "big" and "%s" in text:
        return  # written out in full
    with pytest.raises(Exception):  # noqa: B017  (MissingValue, TypeError, ValueError, SecurityError)
        value(text.format(key))


@pytest.mark.parametrize("word", ["False", "no", "0", "None", "null", "NaN", " false "])
@pytest.mark.parametrize("text", ["'A' if {0} else 'B'", "not {0}", "{0} and 1", "{0} or 1"])
def test_a_text_that_says_false_is_no_true_condition(word: str, text: str) -> None:
    with pytest.raises(ValueError, match="would count as true"):
        evaluate(text.format("record.flag"), {"record": {"flag": word}})


@pytest.mark.parametrize(
    "text", ["record.l | selectattr('ok') | list", "record.l | rejectattr('ok') | list", "['a', 'no'] | select | list"]
)
def test_what_is_kept_by_its_truth_is_tested_alike(text: str) -> None:
    with pytest.raises(ValueError, match="would count as true"):
        evaluate(text, {"record": {"l": [{"ok": "False"}]}})
    kept = evaluate("record.l | selectattr('ok') | map(attribute='n') | list", {"record": {"l": TRUE_AND_FALSE}})
    assert kept == [1]
    assert evaluate("record.l | selectattr('n', 'gt', 1) | list | length", {"record": {"l": TRUE_AND_FALSE}}) == 1


def test_nan_is_no_true_condition() -> None:
    with pytest.raises(ValueError, match="NaN"):
        value("'A' if record.nan else 'B'")


@pytest.mark.parametrize("text", ["record.true + 1", "2 * record.true", "record.true / 2"])
def test_true_is_no_number_in_a_calculation(text: str) -> None:
    with pytest.raises(TypeError, match="true or false in a calculation"):
        value(text)


@pytest.mark.parametrize(
    "text", ["['ab', 'cd'] | flatten", "record.dict | majority", "'abc' | mean", "{'a': 'xy'} | transpose"]
)
def test_letters_and_keys_are_no_members(text: str) -> None:
    with pytest.raises(TypeError, match="where a list is needed"):
        value(text)


@pytest.mark.parametrize("text", ["[1, 2] | random", "record.dict | pprint", "lipsum()"])
def test_what_is_random_or_for_the_eye_is_no_expression(text: str) -> None:
    with pytest.raises(ValueError, match=r"not an expression|unknown name"):
        check(text, ["record"])


def test_decimals_are_their_exact_numbers() -> None:
    record = {"score": Decimal("4.00"), "half": Decimal("0.50")}
    assert evaluate("record.score | int", {"record": record}) == 4
    assert evaluate("record.score ~ ' ' ~ record.half", {"record": record}) == "4 0.5"


def test_json_with_a_key_twice_has_no_value() -> None:
    assert value("""'{"a": {"b": 1}}' | from_json""") == {"a": {"b": 1}}
    with pytest.raises(ValueError, match="the key 'a' is there twice"):
        value("""'[{"a": 1, "a": 2}]' | from_json""")
