"""Row ids, group ids and statuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.records import CONTENT, EXAMPLE, content_hash, error, filtered, group_id, kind, row_id

ROW: dict[str, Any] = {
    "source": "s",
    "task": "pairwise",
    "instruction": "What?",
    "context": None,
    "responses": ["This.", "That."],
    "reference": None,
    "rubric": "r",
    "allowed": ["A", "B"],
    "verdict": "A",
}


def test_every_part_of_the_content_is_a_column_of_an_example() -> None:
    assert set(CONTENT) < set(EXAMPLE.names)


@pytest.mark.parametrize("name", [name for name in ROW if name != "source"])
def test_the_content_hash_sees_every_part(name: str) -> None:
    assert content_hash({**ROW, name: "another"}) != content_hash(ROW)


def test_the_content_hash_sees_nothing_else() -> None:
    other = {**ROW, "source": "t", "license": "MIT", "split": "x", "raw_id": "t:1", "status": "ok"}
    assert content_hash(other) == content_hash(ROW)
    assert row_id(other) != row_id(ROW)


def test_the_order_of_responses_is_content() -> None:
    assert content_hash({**ROW, "responses": ["That.", "This."]}) != content_hash(ROW)


def test_an_absent_column_counts_as_null() -> None:
    without = {key: value for key, value in ROW.items() if key != "context"}
    assert content_hash(without) == content_hash(ROW)


@pytest.mark.parametrize("same", ["What is it?", "  What  is\nit? ", "WHAT IS IT?"])
def test_group_ids_ignore_case_and_white_space(same: str) -> None:
    assert group_id(same) == group_id("what is it?")
    assert group_id("What is it") != group_id("what is it?")


def test_a_missing_instruction_has_a_group() -> None:
    assert group_id(None) == group_id("")


@settings(deadline=None)
@given(st.text())
def test_kinds_of_statuses(reason: str) -> None:
    assert kind("ok") == "ok"
    assert kind(filtered(reason)) == "filtered"
    assert kind(error(reason)) == "error"


@pytest.mark.parametrize("status", [None, "", "fine", "OK", "okay:x"])
def test_whatever_is_no_status_is_an_error(status: str | None) -> None:
    assert kind(status) == "error"
