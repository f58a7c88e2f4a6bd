"""What the service says of a line that it does not understand."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from serve.errors import not_understood
from serve.schemas import BatchLine


def test_a_line_without_a_task_is_told_so() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(BatchLine).validate_python({"id": 1, "instruction": "Hi", "response": "Hello"})
    said = not_understood(caught.value.errors(include_url=False, include_input=False))
    assert (said.status, said.message) == (422, "task is missing")
