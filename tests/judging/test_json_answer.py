"""Answers that are one JSON object."""

from __future__ import annotations

import pytest

from pipelines.judging.parse import parse, without_verdict_lines

AB = ["A", "B"]
SCORES = ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(
    ("answer", "allowed", "verdict", "critique"),
    [
        ('{"reasoning": "Clear.", "verdict": "A"}', AB, "A", "Clear."),
        (
            '{"feedback": "\\"verdict\\": \\"B\\" would be wrong", "verdict": "A"}',
            AB,
            "A",
            '"verdict": "B" would be wrong',
        ),
        ('```json\n{\n  "score": 4,\n  "feedback": "Good."\n}\n```\n', SCORES, "4", "Good."),
        (' {"Final_Score": 4.0} ', SCORES, "4", ""),
        ('{"winner": "Response B"}', AB, "B", ""),
        ('{"score": 4, "parts": {"score": 2}}', SCORES, "4", ""),
        ('{"parts": {"score": 2}, "score": 4}', SCORES, "4", ""),
        ('{"verdict": "A", "result": "A"}', AB, "A", ""),
    ],
)
def test_the_key_of_the_verdict_is_read(answer: str, allowed: list[str], verdict: str, critique: str) -> None:
    found = parse(answer, allowed)
    assert (found.verdict, found.critique, found.status) == (verdict, critique, "ok")
    assert found.place is not None and answer[found.place :].startswith(verdict)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ('{"verdict": "A", "result": "B"}', "no_verdict"),
        ('{"verdict": "A", "verdict": "B"}', "no_verdict"),
        ('{"verdict": "A"} {"verdict": "B"}', "no_verdict"),
        ('{"parts": {"verdict": "A"}}', "no_verdict"),
        ('{"verdict": "A or B"}', "not_allowed"),
        ('{"verdict": null}', "not_allowed"),
        ('{"verdict": true}', "not_allowed"),
        ('{"verdict": ["A"]}', "not_allowed"),
        ('{"score": NaN}', "not_allowed"),
        ('{"score": 1e400}', "not_allowed"),
        ("[" * 100_000, "no_verdict"),
        ('{"a":' * 100_000, "no_verdict"),
    ],
)
def test_nothing_else_is(answer: str, status: str) -> None:
    found = parse(answer, AB)
    assert (found.verdict, found.status) == (None, status)


def test_a_critique_that_is_such_an_object_is_none() -> None:
    assert without_verdict_lines('{"reasoning": "x", "verdict": "A"}', AB) == ""


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [("Result: A > B", "A"), ("[[B>>A]]", "B"), ("B > A", "B"), ("Result: A > A", None), ("Result: A > C", None)],
)
def test_one_above_the_other_is_the_better(answer: str, verdict: str | None) -> None:
    assert parse(answer, AB).verdict == verdict


def test_a_number_above_another_is_no_score() -> None:
    assert parse("Result: 4 > 3", SCORES).verdict is None
