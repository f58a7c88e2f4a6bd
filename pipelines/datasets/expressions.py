"""Sandboxed Jinja expressions over data: how a YAML file says where a field comes from.

An expression sees values and a few filters, nothing else: no files, no imports, no attribute that starts with
an underscore. The content of a record is only data and is never compiled.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment


class MissingValue(Exception):
    """An expression asked for a key that the data does not have.

    Attributes:
        holder: what was looked into.
        key: what was looked for.
    """

    def __init__(self, holder: Any, key: Any) -> None:
        self.holder, self.key = holder, key
        super().__init__(f"there is no {key!r}")


class _Missing(StrictUndefined):
    __slots__ = ()

    def __init__(self, hint: Any = None, obj: Any = None, name: Any = None, exc: Any = None) -> None:
        super().__init__(hint, obj, name, lambda message: MissingValue(obj, name))  # type: ignore[arg-type]


class _Environment(ImmutableSandboxedEnvironment):
    def getattr(self, obj: Any, attribute: str) -> Any:
        """`record.items` is the record's own key of that name before it is the method of a dict."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Looking null up in a table gives null, so that a null label stays a null verdict."""
        if argument is None and isinstance(obj, Mapping) and None not in obj:
            return None
        return super().getitem(obj, argument)


def check(text: str, names: Iterable[str]) -> None:
    """Check that an expression compiles and uses known names only.

    Raises:
        ValueError: it does not.
    """
    known = sorted(names)
    try:
        tree = _environment().parse("{{ (" + text + "\n) }}")
        _compiled(text)
    except TemplateSyntaxError as exc:
        raise ValueError(f"not an expression: {exc.message}") from None
    unknown = meta.find_undeclared_variables(tree) - {*known, *_environment().globals}
    if unknown:
        raise ValueError(f"unknown name '{min(unknown)}' in an expression; known: {', '.join(known)}")


def evaluate(text: str, values: dict[str, Any]) -> Any:
    """The value of an expression.

    Raises:
        MissingValue: the data lacks a key that the expression asks for.
        Exception: whatever else the expression raises.
    """
    value = _compiled(text)(values)
    require(value)
    return value


def require(value: Any) -> None:
    """Raise MissingValue for a value, or a member of a list, that is undefined."""
    for part in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(part, Undefined):
            raise MissingValue(part._undefined_obj, part._undefined_name)


def belongs_to(data: Any, holder: Any) -> bool:
    """Whether `holder` is `data` or a container somewhere inside it (by identity)."""
    stack = [data]
    while stack:
        node = stack.pop()
        if node is holder:
            return True
        if isinstance(node, Mapping):
            stack.extend(node.values())
        elif isinstance(node, (list, tuple)):
            stack.extend(node)
    return False


@cache
def _compiled(text: str) -> Callable[[dict[str, Any]], Any]:
    return _environment().compile_expression(text, undefined_to_none=False)


@cache
def _environment() -> _Environment:
    environment = _Environment(undefined=_Missing, autoescape=False)
    for function in (values, flatten, transpose, majority, mean, between, from_json, dialogue):
        environment.filters[function.__name__] = function
    return environment


def values(mapping: Mapping[Any, Any]) -> list[Any]:
    """The values of a mapping, in order."""
    return list(mapping.values())


def flatten(lists: Iterable[Iterable[Any]]) -> list[Any]:
    """The members of the lists in one list."""
    return [member for members in lists for member in members]


def transpose(columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Records from a mapping of equally long columns."""
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def majority(votes: Iterable[Any]) -> Any:
    """The value that more than half of the votes have, or null."""
    counts = Counter(votes)
    value, n = counts.most_common(1)[0]
    return value if 2 * n > counts.total() else None


def mean(numbers: Iterable[float]) -> float:
    """The arithmetic mean."""
    listed = [float(number) for number in numbers]
    return sum(listed) / len(listed)


def between(text: str, start: str, end: str = "") -> str:
    """The text after the first `start` up to the next `end` (up to the text's end without one), stripped.

    Raises:
        ValueError: the text has not both.
    """
    _, found, rest = text.partition(start)
    if not found:
        raise ValueError(f"the text has no {start!r}")
    if not end:
        return rest.strip()
    inside, found, _ = rest.partition(end)
    if not found:
        raise ValueError(f"the text has no {end!r} after {start!r}")
    return inside.strip()


def from_json(text: str) -> Any:
    """The value of a JSON text."""
    return json.loads(text)


def dialogue(turns: Iterable[Mapping[str, Any]]) -> str:
    """Turns (`role` and `content`, or `from` and `value`) as one text; a single turn is its content alone."""
    named = [(turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))) for turn in turns]
    if len(named) == 1:
        return str(named[0][1])
    words = {"human": "User", "gpt": "Assistant"}
    return "\n\n".join(f"{words.get(role, str(role).capitalize())}: {content}" for role, content in named)
