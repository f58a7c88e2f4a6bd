"""A judge's answer that is one JSON object: `{"reasoning": "...", "verdict": "A"}`, in a fence or without."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from pipelines.judging.verdict import Verdict, read_verdict

# The words of verdict lines, and of critiques, as keys.
VERDICT_KEYS = re.compile(
    r"(?:(?:final|overall)[ _-]?)?(?:result|verdict|judge?ment|decision|score|rating|grade|answer|winner|choice"
    r"|(?:better|preferred)[ _-]?response)",
    re.IGNORECASE,
)
CRITIQUE_KEYS = re.compile(
    r"reasoning|reasons?|feedback|critique|rationale|explanation|analysis|justification", re.IGNORECASE
)
_FENCE = re.compile(r"```(?:json)?[^\S\n]*\n", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class JsonAnswer(NamedTuple):
    """What an object says.

    Attributes:
        critique: its text, or nothing.
        verdicts: of each key that is a verdict's, None where its value is not an allowed one.
    """

    critique: str
    verdicts: list[Verdict | None]


def read_object(answer: str, allowed: Sequence[str]) -> JsonAnswer | None:
    """What an answer says that is one JSON object with a key for its verdict; None: it is no such answer.

    Keys within keys are not looked at. The place of a verdict is in the answer.
    """
    start, end = len(answer) - len(answer.lstrip()), len(answer.rstrip())
    if (fence := _FENCE.match(answer, start)) and answer.endswith("```", 0, end):
        start, end = fence.end(), end - 3
    text = answer[start:end]
    try:
        members = list(_members(text.rstrip()))
    except (ValueError, RecursionError):
        return None
    verdicts = [_verdict(value, text, at, allowed) for key, value, at in members if VERDICT_KEYS.fullmatch(key)]
    if not verdicts:
        return None
    texts = [value for key, value, _ in members if CRITIQUE_KEYS.fullmatch(key) and isinstance(value, str)]
    placed = [verdict and verdict._replace(start=start + verdict.start) for verdict in verdicts]
    return JsonAnswer(texts[0].strip() if len(texts) == 1 else "", placed)


def _verdict(value: Any, text: str, at: int, allowed: Sequence[str]) -> Verdict | None:
    """The verdict that a member's value means, with its place in the text, where the value begins at `at`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    written = value if isinstance(value, str) else str(Decimal(str(value)))
    found = read_verdict(written, allowed)
    if found is None:
        return None
    first = at + 1 if isinstance(value, str) else at
    as_it_is = text.startswith(written, first)  # without escapes
    return found._replace(start=first + (found.start if as_it_is else 0))


def _members(text: str) -> Iterator[tuple[str, Any, int]]:
    """Keys of an object's text, each with its value and where that begins.

    Raises:
        ValueError: the text is no object, or more than one.
    """
    at, first = _after(text, _space(text, 0), "{"), True
    while text[at : at + 1] != "}":
        at = at if first else _space(text, _after(text, at, ","))
        key, at = _DECODER.raw_decode(text, at)
        if not isinstance(key, str):
            raise ValueError("a key that is no text")
        begins = _space(text, _after(text, _space(text, at), ":"))
        value, at = _DECODER.raw_decode(text, begins)
        yield key, value, begins
        at, first = _space(text, at), False
    if at + 1 != len(text):
        raise ValueError("text after the object")


def _after(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise ValueError(f"no {mark} where one is needed")
    return _space(text, at + 1) if mark == "{" else at + 1


def _space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None  # it may be empty
    return match.end()
