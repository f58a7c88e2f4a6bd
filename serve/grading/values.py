"""Values in a grader's texts: `{{item.x}}` and `{{sample.output_text}}`, put in as they are and never read again."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

DEPTH = 32
_VARIABLE = re.compile(r"\{\{[ \t]*([A-Za-z_][\w.\[\]-]{0,200})[ \t]*\}\}")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d{1,6})\]")


class UnknownVariable(ValueError):
    """A text names what is not there."""


class SampleNotJson(ValueError):
    """A text wants `sample.output_json`, and the sample is not JSON."""


def problem_of_item(item: Any) -> str | None:
    """Why a row of data cannot be used: a number that is none, half a character, or too deep; None if it can."""
    waiting = [(item, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEPTH:
            return f"nested more than {DEPTH} deep"
        if isinstance(value, float) and not math.isfinite(value):
            return "a number that is not finite"
        if isinstance(value, str) and _broken(value):
            return "a text with half a character (a lone surrogate)"
        if isinstance(value, dict):
            waiting += [(one, depth + 1) for pair in value.items() for one in pair]
        elif isinstance(value, list):
            waiting += [(one, depth + 1) for one in value]
    return None


class Values:
    """What a grader's texts can name.

    Args:
        item: a row of data.
        sample: what the model wrote.
    """

    def __init__(self, item: Mapping[str, Any], sample: str) -> None:
        self.item, self.sample = item, sample

    def fill(self, text: str) -> str:
        """The text with its variables' values; braces within a value stay characters.

        Raises:
            UnknownVariable, SampleNotJson: a variable has no value.
        """
        return _VARIABLE.sub(lambda match: self._value(match[1]), text)

    def _value(self, path: str) -> str:
        steps = [match[1] if match[1] is not None else int(match[2]) for match in _STEP.finditer(path)]
        found: Any = {"item": self.item, "sample": {"output_text": self.sample}}
        if steps[:2] == ["sample", "output_json"]:
            found["sample"]["output_json"] = self._json()
        for step in steps:
            try:
                found = found[step]
            except (KeyError, IndexError, TypeError):
                raise UnknownVariable(path) from None
        return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)

    def _json(self) -> Any:
        try:
            found = json.loads(self.sample)
        except (ValueError, RecursionError):
            raise SampleNotJson from None
        if problem_of_item(found):
            raise SampleNotJson
        return found


def _broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
