"""CSV that a person opens: a spreadsheet runs a cell that begins like a formula, so such texts get an apostrophe.

The first letters are those of OWASP's page on CSV injection.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

# With apostrophes before them too, so that every text comes back as it was.
_LIKE_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_MARKED = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def marked(cell: Any) -> Any:
    """A cell as it is written: a text that begins like a formula with an apostrophe before it.

    Numbers, and texts that are one, stay as they are: no spreadsheet runs them.
    """
    if not isinstance(cell, str) or not _LIKE_FORMULA.match(cell) or _NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def unmarked(text: str) -> str:
    """A text that `marked` has written, as it was."""
    return text[1:] if _MARKED.match(text) else text


def written(lines: Iterable[Sequence[Any]]) -> str:
    """Lines of cells as a file's text."""
    return "".join(_line(cells) for cells in lines)


def _line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    # Written with the line end of RFC 4180, since csv quotes a lone CR only where that is the line end.
    csv.writer(text).writerow([marked(cell) for cell in cells])
    return text.getvalue().removesuffix("\r\n") + "\n"


def read(text: str) -> list[list[str]]:
    """The lines of such a file."""
    return [[unmarked(cell) for cell in line] for line in csv.reader(io.StringIO(text, newline=""))]
