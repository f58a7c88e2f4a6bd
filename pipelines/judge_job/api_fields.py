"""A record with the judge API's own field names, checked and filled up, so that one mapping fits every row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipelines.core.errors import RowFailure
from pipelines.datasets.columns import text
from pipelines.datasets.messages import dialogue
from pipelines.judging.tasks import Task

TEXTS = ("context", "rubric", "reference")
LISTS = ("messages", "responses", "allowed")


def request_of(record: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """The fields of a request; a cell of a table may hold a list as JSON, and an empty one is null.

    Args:
        record: with the API's field names; other names are left out.
        task: of the record.

    Raises:
        RowFailure: a field is missing, there twice in different forms, or of the wrong kind.
    """
    if _given(record, "criteria"):
        raise RowFailure("criteria", "several rubrics: give each a row")
    return {
        "id": _id(record),
        "instruction": _instruction(record),
        "responses": _responses(record, task),
        "allowed": _list(record, "allowed") or list(task.verdicts),
        **{name: record.get(name) for name in TEXTS},
    }


def _given(record: Mapping[str, Any], name: str) -> Any:
    """The value of a field; None where it is missing, null or an empty cell."""
    value = record.get(name)
    return None if value is None or value == "" or value != value else value


def _id(record: Mapping[str, Any]) -> str | None:
    try:
        return text(_given(record, "id"))
    except (TypeError, ValueError) as exc:
        raise RowFailure("unusable_id", str(exc)) from None


def _instruction(record: Mapping[str, Any]) -> Any:
    instruction, messages = _given(record, "instruction"), _list(record, "messages")
    if (instruction is None) == (messages is None):
        said = "both_instruction_and_messages" if messages else "no_instruction"
        raise RowFailure(said, "" if messages else "give instruction or messages")
    if messages is None:
        return instruction
    try:
        return dialogue(messages)
    except (TypeError, ValueError) as exc:
        raise RowFailure("unusable_messages", str(exc)) from None


def _responses(record: Mapping[str, Any], task: Task) -> Any:
    several = _list(record, "responses")
    if task.responses > 1 or several is not None:
        if several is None:
            raise RowFailure("no_responses", f"{task.name} needs responses, a list of {task.responses}")
        if _given(record, "response") is not None:
            raise RowFailure("both_response_and_responses")
        return several
    if record.get("response") is None:  # an empty response can be judged
        raise RowFailure("no_response", f"{task.name} needs response")
    return [record["response"]]


def _list(record: Mapping[str, Any], name: str) -> Any:
    value = _given(record, name)
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise RowFailure(f"unusable_{name}", "the cell begins like a list and is no JSON") from None
