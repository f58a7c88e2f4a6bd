"""Cleaning (§2.1): what a row must be to stay. Each rule is a filter with its own reasons."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import regex  # type: ignore[import-untyped]

from pipelines.core.errors import RowFailure, UserError
from pipelines.core.records import Row
from pipelines.core.stage import Filter
from pipelines.curation.config import CleanConfig
from pipelines.curation.words import seen

TEXTS = ("instruction", "context", "responses", "reference", "rubric")
# The replacement character stands for text that was lost; a control character other than white space, or a
# noncharacter, is in no text that a person wrote.
DAMAGED = regex.compile(r"[\uFFFD\p{Noncharacter_Code_Point}[\p{Cc}--\s]]", regex.V1)


def cleaning_stages(config: CleanConfig) -> list[Filter]:
    """The rules in order, cheap ones first.

    Raises:
        UserError: the config names a script that Unicode does not have.
    """
    return [
        NotExcludedSplit(config.excluded_splits),
        *([] if config.min_year is None else [Year(config.min_year)]),
        AllowedLabel(),
        NotNull(),
        DifferentResponses(),
        Length(config.max_chars),
        ValidUnicode(),
        Script(config.scripts, config.max_other_letters),
    ]


def texts(row: Row) -> list[str]:
    """All texts of a row that a judge would read."""
    found: list[str] = []
    for name in TEXTS:
        if isinstance(value := row.get(name), list):
            found.extend(filter(None, value))
        elif value:
            found.append(value)
    return found


class NotNull(Filter):
    """The instruction and all responses must be present and non-empty."""

    name = "not_null"
    reads = ("instruction", "responses")

    def reason(self, row: Row) -> str | None:
        for field, value in (
            ("instruction", row["instruction"]),
            *(("response", text) for text in row["responses"] or [None]),
        ):
            if value is None:
                return f"null_{field}"
            if not seen(value):
                return f"empty_{field}"
        return None


class ValidUnicode(Filter):
    """No replacement characters, control characters or noncharacters."""

    name = "valid_unicode"
    reads = TEXTS

    def reason(self, row: Row) -> str | None:
        return "invalid_unicode" if any(DAMAGED.search(text) for text in texts(row)) else None


class Script(Filter):
    """At most `most` letters of scripts other than the given ones.

    Digits, punctuation, symbols, emoji, combining marks and mathematical letters do not count: Unicode gives
    them to no script.
    """

    name = "script"
    reads = TEXTS

    def __init__(self, scripts: Sequence[str], most: int = 0) -> None:
        self.scripts, self.most = sorted(set(scripts)), most
        _other_letters(tuple(self.scripts))  # an unknown script is an error now, not on the first row

    def depends(self) -> dict[str, Any]:
        return {"scripts": self.scripts, "most": self.most}

    def reason(self, row: Row) -> str | None:
        others = _other_letters(tuple(self.scripts))
        count = 0
        for text in texts(row):
            if text.isascii() and "Latin" in self.scripts:
                continue
            for _ in others.finditer(text):
                count += 1
                if count > self.most:
                    return "script"
        return None


class NotExcludedSplit(Filter):
    """No rows of a split that is not for training."""

    name = "split"
    reads = ("split",)

    def __init__(self, excluded: Sequence[str]) -> None:
        self.excluded = {split.strip().casefold() for split in excluded}

    def depends(self) -> dict[str, Any]:
        return {"excluded": sorted(self.excluded)}

    def reason(self, row: Row) -> str | None:
        split = (row["split"] or "").strip().casefold()
        return f"{split}_split" if split in self.excluded else None


class Year(Filter):
    """Published in a given year or later; a row without a year is filtered too."""

    name = "year"
    reads = ("published",)

    def __init__(self, least: int) -> None:
        self.least = least

    def depends(self) -> dict[str, Any]:
        return {"least": self.least}

    def reason(self, row: Row) -> str | None:
        if row["published"] is None:
            return "year_unknown"
        return "year" if row["published"] < self.least else None


class Length(Filter):
    """At most so many characters in all texts together."""

    name = "length"
    reads = TEXTS

    def __init__(self, most: int) -> None:
        self.most = most

    def depends(self) -> dict[str, Any]:
        return {"most": self.most}

    def reason(self, row: Row) -> str | None:
        return "too_long" if sum(len(text) for text in texts(row)) > self.most else None


class AllowedLabel(Filter):
    """The verdict is one of the row's closed set."""

    name = "label"
    reads = ("verdict", "allowed")

    def reason(self, row: Row) -> str | None:
        allowed = row["allowed"] or []
        if None in allowed:
            raise RowFailure("null_in_allowed")
        return None if row["verdict"] in allowed else "label_not_allowed"


class DifferentResponses(Filter):
    """The responses of a row differ: between equal ones there is nothing to judge."""

    name = "different_responses"
    reads = ("responses",)

    def reason(self, row: Row) -> str | None:
        distinct = set(map(seen, row["responses"]))
        return "responses_equal" if len(distinct) < len(row["responses"]) else None


@cache
def _other_letters(scripts: tuple[str, ...]) -> regex.Pattern[str]:
    known = "".join(rf"\p{{Script={script}}}" for script in (*scripts, "Common"))
    try:
        if strange := [script for script in scripts if not script.isidentifier()]:
            raise regex.error(f"{strange[0]} is no name")
        return regex.compile(rf"[\p{{L}}--[{known}]]", regex.V1)
    except regex.error as exc:
        fix = "use Unicode's names: Latin, Greek, Cyrillic, Han, Arabic, ..."
        raise UserError(f"{exc.msg}: {', '.join(scripts)}", where="curation.clean.scripts", fix=fix) from None
