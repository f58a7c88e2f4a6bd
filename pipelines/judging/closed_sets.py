"""The closed set of verdicts of a row: what a task can use, and to what a user maps the rest."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise

LEAST_DISTANCE = 2  # between the true and the rejected score (Figure 5: truth 1, rejected 3)
SHOWN = 6  # labels that a message maps one by one
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?")
_RANGE = re.compile(r"(-?[0-9]{1,18})\.\.(-?[0-9]{1,18})")
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")
_WHO = "(model|response|assistant|answer|output|completion|option|candidate|system|text)?"
UNSURE = "A, B or Tie"
_COMPARED = re.compile(r"([ab12])\s*([>≻]+|[<≺]+|[=~≈]+)\s*([ab12])")  # `A > B`
_MEANINGS = {  # how data sets commonly write the three outcomes of a comparison
    "A": re.compile(rf"{_WHO}(a|1|one|1st)|first|left|chosen"),
    "B": re.compile(rf"{_WHO}(b|2|two|2nd)|second|right|rejected"),
    "Tie": re.compile(r"0|3|c|(ties?|tied|draw|equal|same|both|neither)\w*"),
}


def number(label: str) -> Decimal | None:
    """The exact value of a number written in digits, or None."""
    return Decimal(label.strip()) if _NUMBER.fullmatch(label.strip()) else None


def spread(allowed: object, most: int) -> object:
    """The integers of a range such as `1..5`, at most one more than `most` of them; anything else as it is."""
    if not isinstance(allowed, str) or not (span := _RANGE.fullmatch(allowed.strip())):
        return allowed
    low, high = sorted((int(span[1]), int(span[2])))
    return list(range(low, min(high, low + most) + 1))


def plain(label: str) -> str:
    """A whole number in its usual form (`4` for `4.0`, `+4`, `04`); any other label unchanged."""
    value = number(label)
    return label if value is None or value != int(value) else str(int(value))


def as_listed(verdict: str, allowed: Sequence[str | None]) -> str:
    """The allowed verdict that is the same number, or the same but for case and spaces, where the text is not allowed.

    Else the text.
    """
    if verdict in allowed:
        return verdict
    if (value := number(verdict)) is None:
        equal = [label for label in allowed if label and _alike(label) == _alike(verdict)]
    else:
        equal = [label for label in allowed if label and number(label) == value]
    return equal[0] if len(equal) == 1 else verdict


def scale(allowed: Sequence[str]) -> list[str]:
    """A scale from its lowest score to its highest, where all labels are numbers; else the labels as they are."""
    labels = [plain(label) for label in allowed]
    values = [number(label) for label in labels]
    if any(value is None for value in values):
        return labels
    return [label for _, label in sorted(zip(values, labels, strict=True), key=lambda pair: pair[0] or Decimal(0))]


def _alike(label: str) -> str:
    """What two labels must not have in common: letter case, spaces and forms of letters are no difference."""
    return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def problem(allowed: Sequence[str]) -> str | None:
    """Why no task can use a closed set; None if one may."""
    if len(allowed) < 2:
        return "name at least two verdicts"
    known: dict[str, str] = {}
    for label in allowed:
        if not label.strip():
            return "a verdict is empty"
        if label != label.strip() or len(label.splitlines()) > 1:
            return f"the verdict {label!r} begins or ends with white space, or breaks the line: write it without"
        key = _alike(label)
        if (before := known.get(key)) == label:
            return f"the verdict '{label}' is there twice"
        if before is not None:
            return f"the verdicts '{before}' and '{label}' differ in letter case or spaces only: keep one of them"
        known[key] = label
    return None


def problem_pairwise(allowed: Sequence[str]) -> str | None:
    """Why a comparison of two responses cannot use a closed set: its labels must name responses by position."""
    if found := problem(allowed):
        return found
    if {"A", "B"} <= set(allowed) <= {"A", "B", "Tie"}:
        return None
    others = [label for label in allowed if label not in ("A", "B", "Tie")]
    if not others:
        return "a pairwise verdict is A, B or Tie: A and B are both needed"
    meanings = {label: _meaning(label) for label in allowed}
    sure = {"A", "B"} <= set(meanings.values()) and len(set(meanings.values())) == len(allowed)
    meant = [
        # A 1 beside a 2 is the first response, beside a 0 it may be either.
        f"{label} -> {meanings[label] if sure or number(label) is None else UNSURE}"
        for label in others[:SHOWN]
    ]
    rest = ", ..." if len(others) > SHOWN else ""
    return (
        "a pairwise verdict is A (the first response is better), B or Tie: "
        f"map {', '.join(meant)}{rest}, and allow [A, B] or [A, B, Tie]"
    )


def problem_scale(allowed: Sequence[str]) -> str | None:
    """Why scores cannot be given on a closed set: it must be of integers, two of them at least 2 apart."""
    if found := problem(allowed):
        return found
    if all(_INTEGER.fullmatch(label) for label in allowed):
        values = [int(label) for label in allowed]
        if max(values) - min(values) >= LEAST_DISTANCE:
            return None
        return (
            f"a score needs another that is at least {LEAST_DISTANCE} away to be contrasted with, and "
            f"{' and '.join(allowed)} are not: use the task classification, or a wider scale"
        )
    numbers = [number(label) for label in allowed]
    factor = _factor([value for value in numbers if value is not None]) if None not in numbers else None
    step = LEAST_DISTANCE if len(allowed) == 2 else 1
    places = [
        f"{label} -> {int(value * factor) if factor and value is not None else 1 + place * step}"
        for place, (label, value) in enumerate(zip(allowed, numbers, strict=True))
    ]
    rest = ", ..." if len(places) > SHOWN else ""
    return f"a score is an integer: map {', '.join(places[:SHOWN])}{rest}{'' if factor else ', from worst to best'}"


def choices(allowed: Sequence[str]) -> str:
    """A closed set in words: `A or B`, `an integer between 1 and 5`, `0, 2 or 5`."""
    if bounds := _without_gaps(allowed):
        return f"an integer between {bounds[0]} and {bounds[1]}"
    return f"{', '.join(allowed[:-1])} or {allowed[-1]}" if len(allowed) > 1 else allowed[0]


def score_range(allowed: Sequence[str]) -> str:
    """What follows the word `score`: `between 1 and 5`, `of 0, 2 or 5`."""
    bounds = _without_gaps(allowed)
    return f"between {bounds[0]} and {bounds[1]}" if bounds else f"of {choices(allowed)}"


def _without_gaps(allowed: Sequence[str]) -> tuple[int, int] | None:
    """Lowest and highest of three or more integers that follow one another, in whatever order they are listed."""
    if len(allowed) < 3 or not all(_INTEGER.fullmatch(label) for label in allowed):
        return None
    values = sorted(int(label) for label in allowed)
    follow = all(after - before == 1 for before, after in pairwise(values))  # no list of a range: it may be huge
    return (values[0], values[-1]) if follow else None


def _meaning(label: str) -> str:
    if compared := _COMPARED.fullmatch(label.strip().casefold()):
        first, sign, second = compared.groups()
        if (first in "a1") != (second in "a1"):
            better = first if sign[0] in (">", "≻") else second
            return "Tie" if sign[0] in "=~≈" else "A" if better in "a1" else "B"
    short = re.sub(r"[\W_]+", "", label.casefold())
    return next((verdict for verdict, words in _MEANINGS.items() if words.fullmatch(short)), UNSURE)


def _factor(values: Sequence[Decimal]) -> int | None:
    """The smallest factor that makes integers of all values, such as 2 for halves."""
    return next((n for n in (1, 2, 3, 4, 5, 10, 20, 100) if all(value * n == int(value * n) for value in values)), None)
