"""A record with the judge API's own field names, checked and filled up, so that one mapping fits every row."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pipelines.core.errors import RowFailure
from pipelines.datasets.columns import text
from pipelines.datasets.messages import dialogue
from pipelines.judging.tasks import Task

TEXTS = ("context", "rubric", "reference")
NAMES = ("id", "task", "instruction", "messages", "response", "responses", "allowed", "criteria", *TEXTS)
FOR_ALL_ROWS = ("both_orders", "with_critique")
NEAR = 0.85  # likeness of names: `rubrics` is near `rubric`, `task_id` is not near `task`


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


def as_named(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record with the API's names where a table writes them in capitals or with spaces, as `Response `.

    Raises:
        RowFailure: two of its fields have one name.
    """
    found = dict(record)
    for name in record:
        meant = name.strip().casefold().replace(" ", "_") if isinstance(name, str) else name
        if meant == name or meant not in NAMES:
            continue
        if meant in found:
            raise RowFailure("one_name_twice", f"{name!r} and '{meant}'")
        found[meant] = record[name]
    return found


def check_names(record: Mapping[str, Any]) -> None:
    """Check that no field is left out for a slip in its name: other columns are.

    Args:
        record: as `as_named` gives it.

    Raises:
        RowFailure: a name is nearly that of a field which the record does not have.
    """
    given = frozenset(name for name in record if isinstance(name, str) and _given(record, name) is not None)
    if slip := _slip(given):
        raise RowFailure("unknown_field", f"'{slip[0]}': rename it to '{slip[1]}', or name the columns by a mapping")


@lru_cache(maxsize=1024)
def _slip(given: frozenset[str]) -> tuple[str, str] | None:
    for name in sorted(given - {*NAMES}):
        said = name.strip().casefold().replace(" ", "_")
        for meant in difflib.get_close_matches(said, NAMES, n=1, cutoff=NEAR):
            if meant not in given:
                return name[:100], meant
    return None


def check_settings(record: Mapping[str, Any], settings: Mapping[str, bool]) -> None:
    """Check that a row of the service's batch asks for nothing that the job does not do.

    Args:
        record: with the API's field names.
        settings: of the job, which hold for all rows.

    Raises:
        RowFailure: it asks for something else.
    """
    for name, value in settings.items():
        if isinstance(asked := record.get(name), bool) and asked is not value:
            raise RowFailure("for_all_rows", f"{name} is {str(asked).lower()} here: set judge.{name} for all rows")


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
    try:
        if messages is None:
            return dialogue(instruction) if isinstance(instruction, str) else instruction
        return dialogue(messages)
    except (TypeError, ValueError) as exc:
        if messages is None:
            raise RowFailure("unusable_instruction", "messages written as one text: call the field messages") from None
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
