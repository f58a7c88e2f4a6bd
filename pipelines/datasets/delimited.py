"""Records of CSV and TSV files. The header shows which delimiter a file has; a bad row costs that row alone.

Quotation marks enclose a cell where they open and close it, as in RFC 4180. A TSV need not quote: a cell that only
begins with a mark has the mark as its first letter. So a stray mark never swallows the rows below: when what it would
enclose is no record, only its first line is given up, and reading goes on with the next.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice

from pipelines.core.errors import UserError
from pipelines.core.storage import Place
from pipelines.datasets.json_records import Read
from pipelines.datasets.opened import text

DELIMITERS = (",", ";", "\t", "|")
LOOKED_AT = 200  # lines that show the delimiter
LONGEST = 2**24  # characters of a cell: what a stray quotation mark may cost


class _Lines:
    """Lines of a file that can be given back, and the number of the first of those just taken."""

    def __init__(self, lines: Iterator[str]) -> None:
        self.lines, self.waiting = lines, deque[str]()
        self.taken: list[str] = []
        self.start = 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self.waiting.popleft() if self.waiting else next(self.lines)
        self.taken.append(line)
        return line

    def begin(self) -> None:
        """The lines taken so far are done with."""
        self.start += len(self.taken)
        self.taken = []

    def give_back(self, keep: int) -> None:
        """Keep the first of the lines taken; the others are read again."""
        self.waiting.extendleft(reversed(self.taken[keep:]))
        del self.taken[keep:]


def read_delimited(path: Place, delimiter: str, encoding: str | None = None) -> Read:
    """The rows of a file under the names of its first row, each a mapping of texts.

    Args:
        path: the file.
        delimiter: what its format has; another common one is taken where the header shows it.
        encoding: in place of UTF-8.

    Raises:
        UserError: the header is missing, damaged, or names a column twice.
    """
    csv.field_size_limit(LONGEST)  # the default refuses a response of 128 kB
    with text(path, encoding) as file:
        head = list(islice(file, LOOKED_AT))
        lines = _Lines(chain(head, file))
        while head and not head[0].strip("\ufeff \r\n"):  # blank lines above the header
            head = head[1:]
            next(lines)
            lines.begin()
        if head and (said := re.fullmatch(r"\ufeff?sep=(.)\s*", head[0])):  # Excel's own line before the header
            delimiter = said[1]
            next(lines)
            lines.begin()
        else:
            delimiter = _delimiter(head, delimiter)
        header = _header(path, lines, delimiter)
        for start, cells, problem in _rows(lines, delimiter, len(header)):
            where = f"line {start}"
            if problem is None and _damaged(cells):
                problem = "invalid_utf8"
            value = delimiter.join(cells) if problem else dict(zip(header, cells, strict=True))
            yield where, value, problem


def _header(path: Place, lines: _Lines, delimiter: str) -> list[str]:
    try:
        header = next(csv.reader(lines, delimiter=delimiter, strict=True), None)
    except csv.Error as exc:
        raise UserError(f"the header row cannot be read: {exc}", where=f"{path} line 1") from None
    where = f"{path} line {lines.start}"
    if not header:
        raise UserError("the header row is missing", where=where)
    if _damaged(header):
        fix = "set `encoding` in the YAML file, such as cp1252"
        raise UserError("the header row is not UTF-8", where=where, fix=fix)
    header = [name.removeprefix("\ufeff").strip() for name in header]
    # Columns without a name, as a spreadsheet writes at its right end, may be several: no expression can ask for them.
    if twice := [name for number, name in enumerate(header) if name and name in header[:number]]:
        raise UserError(f"the header row names the column '{twice[0]}' twice", where=where)
    lines.begin()
    return header


def _rows(lines: _Lines, delimiter: str, width: int) -> Iterator[tuple[int, list[str], str | None]]:
    """(number of the first line, cells, problem) of each row after the header."""
    unquoted = delimiter == "\t"
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        try:
            cells = next(reader, None)
            problem = None if cells is None or len(cells) in (0, width) else "wrong_number_of_cells"
        except csv.Error:
            cells, problem = [], "stray_quotation_mark"
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
        if cells is None:
            return
        several = len(lines.taken) > 1
        if problem or (unquoted and several):
            alone = [_split(line, delimiter) for line in lines.taken]
            if unquoted and all(len(parts) == width for parts in alone):
                lines.give_back(1)  # every line is a row by itself
                cells, problem = alone[0], None
            elif problem:
                if several and (problem == "stray_quotation_mark" or any(len(parts) == width for parts in alone[1:])):
                    lines.give_back(1)
                cells = _split("".join(lines.taken), delimiter)
                if unquoted and len(cells) != width:
                    problem = "wrong_number_of_cells"
        if cells:
            yield lines.start, cells, problem
        lines.begin()


def _split(line: str, delimiter: str) -> list[str]:
    return line.rstrip("\r\n").split(delimiter)


def _damaged(cells: list[str]) -> bool:
    """Whether a cell has bytes that are not of the file's encoding (`opened.text` makes surrogates of them)."""
    return any(not cell.isascii() and any("\udc80" <= letter <= "\udcff" for letter in cell) for cell in cells)


def _delimiter(head: list[str], expected: str) -> str:
    """The expected one, if the header has it; else the one that cuts header and rows into equally many cells."""
    best, most = expected, 1
    for delimiter in (expected, *DELIMITERS):
        rows = [cells for cells in csv.reader(head, delimiter=delimiter) if cells]
        columns = len(rows[0]) if rows else 1
        if delimiter == expected and columns > 1:
            return expected
        even = sum(len(cells) == columns for cells in rows)
        if columns > most and even >= 0.8 * len(rows):
            best, most = delimiter, columns
    return best
