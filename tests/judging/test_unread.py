"""The last line of an unread answer, as the report counts it."""

from __future__ import annotations

import pytest

from pipelines.judging.unread import SHOWN, last_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Fine.\nResult:  A or\tB \n\n", "Result: A or B"),
        ("one line", "one line"),
        ("", ""),
        (" \n", ""),
        (None, ""),
        ("x" * 200, "x" * (SHOWN - 1) + "…"),
    ],
)
def test_the_last_line_that_is_not_blank(text: str | None, line: str) -> None:
    assert last_line(text) == line
