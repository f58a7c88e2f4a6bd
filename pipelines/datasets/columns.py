"""What an expression's value becomes in a row's column: the same thing as text, or an error. Nothing is invented."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

EXACT = 2**53  # beyond it a float no longer tells neighbouring integers apart
YEARS = range(1900, 2201)
_SURROGATE = re.compile("[\ud800-\udfff]")


def text(value: Any) -> str | None:
    """A text or a number as text, a whole number without its point; NaN is a missing value, as in pandas.

    Raises:
        TypeError, ValueError: the value is neither, or a number that lost digits before it came here.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise TypeError(f"{type(value).__name__} where a text is needed")
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return None
    if not math.isfinite(value) or (isinstance(value, float) and abs(value) >= EXACT):
        raise ValueError(f"{value} is not an exact number")
    if value == int(value):
        return str(int(value))
    return repr(value) if isinstance(value, float) else format(value.normalize(), "f")


def texts(value: Any) -> list[str | None]:
    """The members of a list as texts.

    Raises:
        TypeError, ValueError: it is no list, or has a member that is no text.
    """
    return [text(member) for member in listed(value)]


def text_or_texts(value: Any) -> str | list[str | None] | None:
    """A text, or a list of texts: a column in addition to those of every row."""
    return texts(value) if isinstance(value, list | tuple) else text(value)


def listed(value: Any) -> list[Any]:
    """The members of what is a list; the letters of a text and the keys of a mapping are none.

    Raises:
        TypeError: it is no list.
    """
    if isinstance(value, str | bytes | Mapping | set | frozenset) or not isinstance(value, Iterable):
        raise TypeError(f"{type(value).__name__} where a list is needed")
    return list(value)


def year(value: Any) -> int | None:
    """A year, out of a whole number, its digits, a date, or a text of a date such as `2024-05-01`.

    Raises:
        TypeError, ValueError: it is none of these.
    """
    if isinstance(value, date):
        return value.year
    if (said := text(value)) is None:
        return None
    written = said.strip()
    found = int(written) if written.isascii() and written.isdecimal() else _dated(written)
    if found not in YEARS:
        raise ValueError(f"{written[:40] or 'an empty text'} is not a year")
    return found


def _dated(written: str) -> int | None:
    """The year of a date or a time as ISO 8601 writes it, or None."""
    try:
        return datetime.fromisoformat(written).year
    except ValueError:
        return None


def storable(value: Any) -> tuple[Any, bool]:
    """A text, or the texts of a list, that can be stored as UTF-8, and whether lone surrogates had to be replaced."""
    if isinstance(value, list):
        members = [storable(member) for member in value]
        return [member for member, _ in members], any(damaged for _, damaged in members)
    if not isinstance(value, str) or value.isascii() or not _SURROGATE.search(value):
        return value, False
    return _SURROGATE.sub("\ufffd", value), True
