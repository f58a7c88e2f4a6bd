"""Expressions over data: what they can say, what they refuse, and that a record cannot act."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.datasets.expressions import MissingValue, belongs_to, check, evaluate
from pipelines.datasets.filters import majority


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("record.a", 1),
        ("record['b c']", "x"),
        ("[record.a, record['b c']]", [1, "x"]),
        ("{1: 'A', 2: 'B'}[record.a]", "A"),
        ("record.none", None),
        ("{1: 'A'}[record.none]", None),
        ("record.items", [3]),
        ("record.list | mean", 2.0),
        ("[1, 1, 0] | majority", 1),
        ("[1, 2, 0] | majority", None),
        ("record.gone | default('other')", "other"),
        ("'x: 1; y: 2' | between('x:', ';')", "1"),
        ("'x: 1; y: 2' | between('y:')", "2"),
        ("{'p': [1, 2], 'q': [3]} | values | flatten", [1, 2, 3]),
        ("{'p': [1, 2], 'q': [3, 4]} | transpose", [{"p": 1, "q": 3}, {"p": 2, "q": 4}]),
        ("('[1, 2]' | from_json)[1]", 2),
    ],
)
def test_values(text: str, value: Any) -> None:
    record = {"a": 1, "b c": "x", "none": None, "items": [3], "list": [1, 2, 3]}
    assert evaluate(text, {"record": record}) == value


@pytest.mark.parametrize("text", ["record.gone", "record.gone.deeper", "[record.a, record.gone]"])
def test_a_missing_key_is_told_by_name(text: str) -> None:
    record = {"a": 1}
    with pytest.raises(MissingValue) as caught:
        evaluate(text, {"record": record})
    assert caught.value.key == "gone"
    assert belongs_to(record, caught.value.holder)


def test_a_label_outside_a_table_is_not_a_missing_field() -> None:
    record = {"label": 7}
    with pytest.raises(MissingValue) as caught:
        evaluate("{1: 'A'}[record.label]", {"record": record})
    assert not belongs_to(record, caught.value.holder)


@pytest.mark.parametrize(
    "text",
    [
        "record.__class__.__mro__",
        "''.__class__.__base__.__subclasses__()",
        "record.f.__globals__",
        "record.update({'a': 2})",
        "record.list.append(4)",
        "cycler.__init__.__globals__.os",
        "range(10 ** 9)",
    ],
)
def test_the_sandbox_holds(text: str) -> None:
    record = {"a": 1, "list": [1], "f": lambda: None}
    with pytest.raises(Exception):  # noqa: B017  (jinja2's SecurityError, or there is nothing to be had)
        evaluate(text, {"record": record})
    assert record["a"] == 1
    assert record["list"] == [1]


def test_texts_of_a_record_are_never_evaluated() -> None:
    hostile = "{{ 7 * 7 }}{% for x in range(9) %}{{ x }}{% endfor %}"
    assert evaluate("record.a ~ ''", {"record": {"a": hostile}}) == hostile


@pytest.mark.parametrize("text", ["record.", "record.a |", "}} {{ record", "record | nonsense", ""])
def test_broken_expressions_are_found_before_the_run(text: str) -> None:
    with pytest.raises(ValueError, match="not an expression"):
        check(text, ["record"])


def test_unknown_names_are_found_before_the_run() -> None:
    with pytest.raises(ValueError, match=r"unknown name 'recrod'.*known: item, record"):
        check("recrod.a", ["record", "item"])


def test_majority_needs_more_than_half() -> None:
    assert majority([0, 0, 1, 1]) is None
    assert majority(["x", "x", "y"]) == "x"
