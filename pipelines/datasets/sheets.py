"""The sheets of an xlsx workbook, as streams of cells or of records.

Where several sheets have the same columns they may be parts of one table, or the training and the test set: which are
read is then said, and not guessed. Other sheets than the first, such as a legend, are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pipelines.core.errors import UserError, unreadable
from pipelines.core.storage import Place
from pipelines.datasets.json_records import Read
from pipelines.datasets.opened import binary

CELL_ERRORS = {"#DIV/0!", "#ERROR!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!"}  # of formulas that failed
Rows = Iterator[tuple[int, tuple[Any, ...]]]  # number as a spreadsheet shows it, cells


def sheets(path: Place) -> Iterator[tuple[str, Rows]]:
    """(title, rows) of each sheet in order; read the rows of one before the next is asked for.

    Raises:
        UserError: the file is not a readable workbook.
    """
    import openpyxl

    with binary(path, whole=True) as raw:
        try:
            book = openpyxl.load_workbook(raw, read_only=True, data_only=True)
        except Exception as exc:  # a zip, an XML or a key error, depending on what is broken
            raise unreadable(path, "xlsx", exc) from None
        try:
            for sheet in book.worksheets:
                sheet.reset_dimensions()  # some writers store a wrong extent
                yield sheet.title, _rows(sheet, path)
        finally:
            book.close()


def _rows(sheet: Any, path: Place) -> Rows:
    try:
        yield from enumerate(sheet.iter_rows(values_only=True), start=1)
    except (OSError, ValueError, KeyError, SyntaxError) as exc:
        raise unreadable(path, "xlsx", exc) from None


def read_sheets(path: Place, named: Sequence[str] | None = None) -> Read:
    """The rows of sheets, under the names in the first row of each.

    Args:
        path: the workbook.
        named: titles of the sheets to read; None takes the first that is not empty.

    Raises:
        UserError: there is no such sheet, several may be meant, or one does not name its columns.
    """
    chosen = list(named) if named else _chosen(path)
    left = set(chosen)
    for title, rows in sheets(path):
        if title in left:
            left.remove(title)
            for where, value, problem in _records(path, rows):
                yield (f"sheet {title} {where}" if len(chosen) > 1 else where), value, problem
    if left:
        known = ", ".join(title for title, _ in sheets(path))
        raise UserError(f"no sheet '{min(left)}'", where=str(path), fix=f"its sheets are {known[:200]}")


def _chosen(path: Place) -> list[str]:
    """The title of the first sheet that is not empty."""
    first = [(title, next((cells for _, cells in rows), ())) for title, rows in sheets(path)]
    headers = [(title, header) for title, cells in first if (header := _names(cells))]
    if not headers:
        return [first[0][0]]
    alike = [title for title, header in headers if header == headers[0][1]]
    if len(alike) > 1:
        fix = f"name those to read, such as `sheets: [{alike[0]}]`"
        raise UserError(f"the sheets {', '.join(alike)} have the same columns", where=str(path), fix=fix)
    return alike


def _names(cells: tuple[Any, ...]) -> list[str | None]:
    """The names of the columns; None where one has none."""
    names = [None if cell is None else str(cell).strip() or None for cell in cells]
    while names and names[-1] is None:
        names.pop()
    return names


def _records(path: Place, rows: Rows) -> Read:
    header = _names(next(rows, (0, ()))[1])
    # The first column may have no name: the index, as pandas writes it. No expression could ask for it.
    named = header[1:] if header[:1] == [None] else header
    if not named or None in named or len(set(named)) != len(named):
        raise UserError("the first row must name every column, each once", where=f"{path} row 1")
    for number, cells in rows:
        # A blank row is a record of nulls: real sheets have them where an annotation is missing.
        padded = [*cells, *[None] * (len(header) - len(cells))]
        where, shown = f"row {number}", " ".join(str(cell) for cell in cells if cell is not None)
        if any(cell is not None for cell in padded[len(header) :]):
            yield where, shown, "wrong_number_of_cells"
        elif failed := next((cell for cell in padded if cell in CELL_ERRORS), None):
            yield where, shown, f"cell_error:{failed}"
        else:
            yield where, {name: cell for name, cell in zip(header, padded, strict=False) if name is not None}, None
