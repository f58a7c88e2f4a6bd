"""The filters of expressions. None of them invents a value: what cannot be converted raises.

Jinja's own `int` makes 0 of a text, `~` and `join` write None as a word, `first` of a text is a letter, and '10' is
less than '9'. So the filters here replace those that guess, `guarded` stands before those that turn whatever they are
given into text, and `of_members` before those that look at the members of a list.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import wraps
from typing import Any

from jinja2 import Environment, Undefined
from jinja2.filters import make_attrgetter

from pipelines.datasets.columns import listed, text
from pipelines.datasets.json_text import parsed
from pipelines.datasets.messages import dialogue
from pipelines.judging import closed_sets

# Jinja's filters that turn their first argument into text, whatever it is.
OF_TEXT = (
    *("capitalize", "center", "e", "escape", "forceescape", "indent", "lower", "replace", "safe", "striptags"),
    *("title", "trim", "truncate", "upper", "urlencode", "urlize", "wordcount", "wordwrap"),
)
# Those that look at the members of a list, which a text is not.
OF_MEMBERS = (
    *("batch", "first", "groupby", "last", "list", "map", "max", "min", "reject", "rejectattr", "select"),
    *("selectattr", "slice", "sort", "sum", "unique"),
)
ORDERING = ("max", "min", "sort")
# Random, or for a person's eyes: no way to say where a field comes from.
LEFT_OUT = ("filesizeformat", "pprint", "random", "xmlattr")
# Texts that people write for false or for nothing, and that are true as a condition.
MISLEADING = {"false", "no", "0", "0.0", "n", "f", "off", "none", "null", "nan", "n/a", "na"}


def install(environment: Environment) -> None:
    """Give an environment these filters in place of Jinja's."""
    for name in LEFT_OUT:
        environment.filters.pop(name)
    environment.globals.pop("lipsum", None)
    for name in ("select", "reject", "selectattr", "rejectattr"):
        environment.filters[name] = tested(environment.filters[name], plain=2 if name.endswith("attr") else 1)
    for name in OF_TEXT:
        environment.filters[name] = guarded(environment.filters[name])
    for name in OF_MEMBERS:
        environment.filters[name] = of_members(environment.filters[name], name in ORDERING)
    for check, names in TESTS.items():
        for name in names:
            environment.tests[name] = compared(environment.tests[name], check)
    environment.filters |= {
        "among": among,
        "abs": lambda value: abs(number(value)),
        "between": between,
        "condition": condition,
        "dialogue": dialogue,
        "equal": equal,
        "flatten": flatten,
        "float": to_float,
        "format": formatted,
        "from_json": from_json,
        "int": to_int,
        "join": join,
        "known": known,
        "majority": majority,
        "mean": mean,
        "not_misleading": not_misleading,
        "ordered": ordered,
        "place": place,
        "round": to_round,
        "string": written,
        "text": written,
        "tojson": to_json,
        "transpose": transpose,
        "unrepeated": unrepeated,
        "values": values,
        "written_label": written_label,
    }
    environment.tests["condition"] = condition
    environment.tests["number"] = lambda value: isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def written(value: Any) -> str:
    """A text, or a number as text.

    Raises:
        TypeError, ValueError: the value is anything else, or no exact number.
    """
    if isinstance(value, Undefined):
        return str(value)  # raises that it is not there
    if (found := text(value)) is None:
        raise TypeError("null where a text is needed: say what it means, with `default` or `if`")
    return found


def number(value: Any) -> int | float:
    """A number, or the one that a text writes.

    Raises:
        TypeError, ValueError: it is null, true or false, NaN, or a text that is no number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise TypeError(f"{'null' if value is None else type(value).__name__} is not a number")
    if isinstance(value, str):
        if "_" in value:  # which Python leaves out of a number
            raise ValueError(f"could not read {value!r} as a number")
        try:
            value = int(value)
        except ValueError:
            value = float(value)  # says what it cannot read
    elif isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a number")
    return value


def to_int(value: Any) -> int:
    """A whole number; `| round | int` for another.

    Raises:
        TypeError, ValueError: as for `number`, or it is not whole.
    """
    found = number(value)
    if found != int(found):
        raise ValueError(f"{found} is not a whole number: round it first")
    return int(found)


def to_float(value: Any) -> float:
    """As `number`, with a point."""
    return float(number(value))


def to_round(value: Any, precision: int = 0, method: str = "common") -> float:
    """A number rounded to so many digits; a half goes to the even neighbour.

    Args:
        value: as for `number`.
        precision: digits after the point.
        method: `common`, `ceil` or `floor`.
    """
    found, scale = number(value), 10**precision
    if method == "common":
        return float(round(found, precision))
    return float({"ceil": math.ceil, "floor": math.floor}[method](found * scale) / scale)


def condition(value: Any) -> bool:
    """Whether a value counts as true.

    Raises:
        ValueError: a text such as `False` or `0`, which would count as true, or NaN.
    """
    return bool(not_misleading(value))


def not_misleading(value: Any) -> Any:
    """A value as it is, before it is tested; raises as `condition` does."""
    if isinstance(value, str) and value.strip().casefold() in MISLEADING:
        raise ValueError(f"the text '{value}' would count as true: compare it, as in == '{value}'")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError("NaN would count as true")
    return value


def known(value: Any) -> Any:
    """A value as it is, before it chooses between two constants.

    Raises:
        ValueError: it is null or NaN.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        shown = "null" if value is None else "NaN"
        raise ValueError(
            f"a missing value ({shown}) where it would choose a constant: leave such rows out with `where`"
        )
    return value


def written_label(value: Any) -> Any:
    """As `known`, and no empty text either, which is null in a CSV file."""
    return known(None if isinstance(value, str) and not value.strip() else value)


def ordered(value: Any, *others: Any) -> Any:
    """A value as it is, before it is put in order with others.

    Raises:
        TypeError, ValueError: one is NaN, or the text of a number, which would be compared letter by letter.
    """
    for one in (value, *others):
        if isinstance(one, float) and math.isnan(one):
            raise ValueError("NaN is neither more nor less than anything")
        if isinstance(one, str) and closed_sets.number(one) is not None:
            raise TypeError(f"the text '{one}' would be compared letter by letter: make it a number with `float`")
    return value


def equal(value: Any, other: Any) -> Any:
    """A value as it is, before it is compared with another.

    Raises:
        TypeError: a text and a number that look alike, a text and true or false, or bytes: they are never equal.
    """
    for written_one, one in ((value, other), (other, value)):
        if isinstance(written_one, str) and isinstance(one, bytes):
            raise TypeError("a text is never equal to bytes: make them a text with `.decode()`")
        alike = isinstance(one, bool) or (isinstance(written_one, str) and closed_sets.number(written_one) is not None)
        if isinstance(written_one, str) and isinstance(one, int | float | Decimal) and alike:
            raise TypeError(f"the text '{written_one}' is never equal to {one}, which is no text: convert one of them")
    return value


def among(members: Any, value: Any) -> Any:
    """Members as they are, before a value is looked for among them; raises as `equal` does where it is not there."""
    if isinstance(members, list | tuple | Mapping) and value not in members:
        for member in members:
            equal(member, value)
    return members


def unlike(table: Mapping[Any, Any], key: Any) -> None:
    """Raise as `equal` does where a table lacks a key, but has the number that it writes, or that number as text."""
    if isinstance(key, str | int | float | Decimal) and not isinstance(key, bool):
        other = closed_sets.number(key) if isinstance(key, str) else format(Decimal(str(key)).normalize(), "f")
        if other is not None and other in table:
            equal(key, other)


def place(index: Any, holder: Any) -> Any:
    """What something is looked up by, where it is computed.

    Raises:
        ValueError: a number below 0 for a list: it would count from the end, and often stands for a missing label.
    """
    if isinstance(holder, list | tuple) and isinstance(index, int) and index < 0:
        raise ValueError(f"{index} is no place in a list")
    return index


TESTS: dict[Any, tuple[str, ...]] = {
    equal: ("==", "eq", "equalto", "!=", "ne"),
    ordered: ("<", "lt", "lessthan", "<=", "le", ">", "gt", "greaterthan", ">=", "ge"),
}


def compared(test: Any, check: Callable[[Any, Any], Any]) -> Callable[[Any, Any], bool]:
    """A test of Jinja's that compares, with its operands checked."""
    return lambda value, other: test(check(value, other), other)


def of_members(function: Callable[..., Any], ordering: bool) -> Callable[..., Any]:
    """A filter of Jinja's that is given the members of a list; where it puts them in order, such as have one."""
    before = int(hasattr(function, "jinja_pass_arg"))

    @wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        members = listed(arguments[before])
        if ordering and members:
            attribute = named.get("attribute")
            looked_at = members if attribute is None else map(make_attrgetter(arguments[0], attribute), members)
            ordered(*looked_at)
        return function(*arguments[:before], members, *arguments[before + 1 :], **named)

    return checked


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter of Jinja's that is given texts and numbers only."""
    # Some are handed the environment or the evaluation context first.
    before = int(hasattr(function, "jinja_pass_arg"))

    @wraps(function)
    def checked(*arguments: Any, **named: Any) -> Any:
        value, *others = arguments[before:]
        others = [_harmless(other) for other in others]
        return function(*arguments[:before], written(value), *others, **named)

    return checked


def tested(function: Callable[..., Any], plain: int) -> Callable[..., Any]:
    """Jinja's filters that keep what counts as true: without a test of their own, they take `condition`.

    Args:
        function: the filter; it is handed the context first.
        plain: arguments it has without a test: the members, and the attribute where it looks at one.
    """

    @wraps(function)
    def checked(context: Any, *arguments: Any) -> Any:
        return function(context, *arguments, *(["condition"] if len(arguments) == plain else []))

    return checked


def join(members: Iterable[Any], between: str = "") -> str:
    """Texts and numbers as one text."""
    return written(between).join([written(member) for member in listed(members)])


def formatted(pattern: str, *values: Any) -> str:
    """The pattern (`%s`, `%.1f`) filled with texts and numbers."""
    return written(pattern) % tuple(value if isinstance(value, str) else number(value) for value in values)


def values(mapping: Mapping[Any, Any]) -> list[Any]:
    """The values of a mapping, in order."""
    return list(mapping.values())


def flatten(lists: Iterable[Iterable[Any]]) -> list[Any]:
    """The members of the lists in one list."""
    return [member for members in listed(lists) for member in listed(members)]


def transpose(columns: Mapping[str, Sequence[Any] | Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """Records from a mapping of equally long columns, or of columns that map row numbers to values, as pandas writes.

    Raises:
        TypeError, ValueError: a column is neither, or they do not have the same rows.
    """
    mapped = {name: column for name, column in columns.items() if isinstance(column, Mapping)}
    if mapped:
        rows = next(iter(mapped.values()))
        if len(mapped) < len(columns) or any(column.keys() != rows.keys() for column in mapped.values()):
            raise ValueError("the columns do not have the same rows")
        return [{name: column[row] for name, column in mapped.items()} for row in rows]
    lists = [listed(column) for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


def unrepeated(texts: Iterable[str]) -> list[str]:
    """The texts, without the first one where the second begins with it: a title above a text that repeats it."""
    title, *others = listed(texts)
    return others if others and others[0].startswith(title) else [title, *others]


def majority(votes: Iterable[Any]) -> Any:
    """The value that more than half of the votes have, or null."""
    counts = Counter(listed(votes))
    value, n = counts.most_common(1)[0]
    return value if 2 * n > counts.total() else None


def mean(numbers: Iterable[Any]) -> float:
    """The arithmetic mean of one or more numbers."""
    found = [number(one) for one in listed(numbers)]
    return sum(found) / len(found)


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
    """The value of a JSON text.

    Raises:
        TypeError, ValueError: it is none, or an object of it has a key twice.
    """
    value, twice = parsed(text)
    if twice is not None:
        raise ValueError(f"the key {twice!r} is there twice")
    return value


def to_json(value: Any) -> str:
    """A value as JSON text, its letters unchanged."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _harmless(value: Any) -> Any:
    """A further argument as it is, unless it would be written as None or as a Python literal."""
    return value if isinstance(value, int) else written(value)
