"""The sheets of an xlsx workbook, as streams of cells."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pipelines.core.errors import unreadable
from pipelines.core.storage import Place
from pipelines.datasets.opened import binary

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
