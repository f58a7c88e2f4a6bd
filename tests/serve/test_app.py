"""Requests of the service: what is refused before a model is asked."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from serve.app import TEXT, Request


def test_whole_request_is_accepted() -> None:
    assert Request(task="pairwise", instruction="i", responses=["a", "b"]).allowed is None


@pytest.mark.parametrize(
    "change",
    [
        {"responses": ["a"]},
        {"task": "absolute"},
        {"task": "essay"},
        {"instruction": ""},
        {"responses": ["a", "b" * (TEXT + 1)]},
        {"colour": "red"},
        {"allowed": ["A"]},
        {"template": "../../secret"},
    ],
)
def test_bad_request_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Request.model_validate({"task": "pairwise", "instruction": "i", "responses": ["a", "b"], **change})
