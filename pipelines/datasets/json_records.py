"""Records of JSON files: a list, one record a line, or a list inside a document; the content decides which."""

from __future__ import annotations

import json
from codecs import BOM_UTF8
from collections.abc import Iterator
from itertools import islice
from typing import Any, Literal, TextIO

from pipelines.core.errors import UserError, one_line, unreadable
from pipelines.core.storage import Place
from pipelines.datasets.columns import listed, storable
from pipelines.datasets.expressions import evaluate
from pipelines.datasets.json_text import Decoder, parsed
from pipelines.datasets.line_ranges import lines_between
from pipelines.datasets.opened import binary, encoding_of, text, wide

CHUNK = 1 << 20  # characters read at once from a list
LINE = 1 << 28  # longest first line that is looked at, in characters
WHITE = " \t\r\n"  # what JSON takes for white space

Read = Iterator[tuple[str, Any, str | None]]  # where in the file, value, problem


def read_records(path: Place, encoding: str | None = None, lines: bool = False) -> Read:
    """The records of a file in whichever of the layouts it has.

    Args:
        path: the file.
        encoding: in place of UTF-8.
        lines: whether the file claims to have one record a line. A single value is then a record; else it must be, or
            hold, a list of records.

    Raises:
        UserError: the file is in no such layout.
    """
    layout = _layout(path, encoding, lines)
    if layout == "lines":
        yield from _lines(path, encoding)
    elif layout == "document":
        yield from _only_list(path, encoding)
    else:
        read = 0
        try:
            for where, value, problem in _list(path, encoding):
                yield where, value, problem
                read += 1
        except UserError:
            if read or not lines:
                raise
            yield from _lines(path, encoding)  # its first line is a bad record that begins with a bracket


def lines_apart(path: Place, encoding: str | None = None, lines: bool = False) -> bool:
    """Whether `read_records` takes each line of a file by itself, and bytes can be cut into lines.

    Args:
        path: the file.
        encoding: as for `read_records`.
        lines: as for `read_records`.
    """
    with binary(path) as raw:
        head = raw.read(4)
    return not wide(encoding_of(head, encoding)) and _layout(path, encoding, lines) == "lines"


def read_range(path: Place, encoding: str | None, start: int, end: int, line: int) -> Read:
    """The records of a file of lines that begin in a range of its bytes.

    Args:
        path: a file that is not compressed, and of which `lines_apart` is true.
        encoding: in place of UTF-8.
        start: first byte of the range.
        end: the byte behind it.
        line: number of the first line that begins in it.
    """
    with binary(path) as raw:
        head = raw.read(4)
    with binary(path) as raw:
        yield from _parsed(lines_between(raw, start, end), encoding_of(head, encoding), line)


def count_range(path: Place, start: int, end: int) -> tuple[int, int]:
    """How many records and how many lines `read_range` finds, without parsing them."""
    records = lines = 0
    with binary(path) as raw:
        for line in lines_between(raw, start, end):
            records += not _is_blank(line, first=start == 0 and lines == 0)
            lines += 1
    return records, lines


def read_document(path: Place, records: str, encoding: str | None = None) -> Read:
    """The records that an expression over `document`, the whole file, gives.

    Raises:
        UserError: the file is not JSON, or the expression does not give a list.
    """
    document = _document(path, encoding)
    try:
        found = listed(evaluate(records, {"document": document}))
    except Exception as exc:  # whatever the user's expression raises
        raise UserError(f"the expression `records` fails: {one_line(exc)}", where=str(path)) from None
    for index, value in enumerate(found):
        yield f"record {index}", value, None


def _layout(path: Place, encoding: str | None, lines: bool) -> Literal["lines", "list", "document"]:
    """How the records lie in a file, by its first line."""
    with text(path, encoding) as file:
        nonblank = (line for line in iter(lambda: file.readline(LINE), "") if line.strip("\ufeff" + WHITE))
        first = next(nonblank, "").strip("\ufeff" + WHITE)
        whole = _parses(first)
        more = whole and next(nonblank, None) is not None
    if not first or (first[0] not in "[{" and lines):
        return "lines" if lines else "list"
    if first[0] == "[":
        # A line that is a list by itself is a record where others follow; alone, it is the list of all.
        return "lines" if more else "list"
    return "lines" if lines or more else "document"


def _parses(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(path: Place, encoding: str | None) -> Read:
    with binary(path) as raw:
        head = raw.read(4)
    if wide(name := encoding_of(head, encoding)):
        with text(path, encoding) as file:
            yield from _parsed(line.encode() for line in file)
    else:
        with binary(path) as raw:
            yield from _parsed(raw, name)


def _is_blank(line: bytes, first: bool) -> bool:
    """Whether a line has no record; a mark of UTF-8 at the beginning of a file is none of its text."""
    return not (line.removeprefix(BOM_UTF8) if first else line).strip()


def _parsed(lines: Any, encoding: str = "utf-8", start: int = 1) -> Read:
    decoder = Decoder()
    for number, line in enumerate(lines, start=start):
        if _is_blank(line, first=number == 1):
            continue
        line = line.removeprefix(BOM_UTF8) if number == 1 else line
        where = f"line {number}"
        try:
            written, decoder.twice = line.decode(encoding), None
            value = decoder.decode(written)
            yield where, *((value, None) if decoder.twice is None else (written.strip(), _twice(decoder.twice)))
        except UnicodeDecodeError:
            yield where, line.decode("utf-8", "replace").rstrip("\r\n"), "invalid_utf8"
        except (ValueError, RecursionError):
            yield where, line.decode(encoding).rstrip("\r\n"), "invalid_json"


def _document(path: Place, encoding: str | None) -> Any:
    try:
        with text(path, encoding) as file:
            value, twice = parsed(file.read().lstrip("\ufeff"))
    except (ValueError, RecursionError) as exc:
        raise unreadable(path, "JSON", exc) from None
    if twice is not None:
        raise UserError(f"a mapping has the key '{twice}' twice", where=str(path))
    return value


def _only_list(path: Place, encoding: str | None) -> Read:
    """The records of a document that holds one list, and of a file of lines whose first one is damaged."""
    try:
        document = _document(path, encoding)
    except UserError:
        with text(path, encoding) as file:
            if not any(line.startswith("{") and _parses(line) for line in islice(file, 1, 100)):
                raise
        yield from _lines(path, encoding)
        return
    inside = {name: value for name, value in document.items() if isinstance(value, list)}
    name, records = next(iter(inside.items()), ("", []))
    if len(inside) != 1 or not records or not all(isinstance(record, dict) for record in records):
        names = ", ".join(map(str, inside or document))
        such = f"document['{next(iter(inside or document), 'data')}']"
        fix = f"say where its records are with `records`, such as {such}{_hint(document)}; one record alone is "
        fix += "`format: jsonl`"
        raise UserError(f"not a list of records but a mapping with {names[:200]}", where=str(path), fix=fix)
    for index, value in enumerate(records):
        yield f"{name} {index}", value, None


def _hint(document: dict[str, Any]) -> str:
    """What else gives the records, by the shape of the document."""
    held = list(document.values())
    if held and all(isinstance(one, list) and len(one) == len(held[0]) for one in held):
        return ", or `document | transpose` if these are columns"
    if held and all(isinstance(one, dict) and one.keys() == held[0].keys() for one in held):
        return ", or `document | values` if these are records, `document | transpose` if columns"
    return ""


def _list(path: Place, encoding: str | None) -> Read:
    """The members of a JSON list, without ever holding the whole file."""
    try:
        with text(path, encoding) as file:
            first = file.read(1)
            while first and first in "\ufeff" + WHITE:
                first = file.read(1)
            if first and first != "[":
                fix = "say where its records are with `records`"
                raise UserError("not a list of records", where=str(path), fix=fix)
            for index, (value, twice) in enumerate(_members(file)):
                where = f"record {index}"
                yield where, *((value, None) if twice is None else (json.dumps(value), _twice(twice)))
    except (ValueError, RecursionError) as exc:
        raise unreadable(path, "JSON", exc) from None


def _twice(key: str) -> str:
    return f"key_twice:{storable(key[:100])[0]}"


def _members(file: TextIO) -> Iterator[tuple[Any, str | None]]:
    """The members of a JSON list whose opening bracket has been read, each with a key that it has twice.

    Raises:
        ValueError: what follows is not the rest of a list.
    """
    decoder, held, at, empty, before = Decoder(), "", 0, True, 0
    while True:
        try:
            at = _skip(held, at)
            if empty and held[at : at + 1] == "]":
                at += 1
                break
            decoder.twice = None
            value, end = decoder.raw_decode(held, at)
            end = _skip(held, end)
            if held[end : end + 1] not in (",", "]"):  # or a number goes on: `1` of `1.5`
                raise json.JSONDecodeError("Expecting ',' or ']'", held, end)
        except json.JSONDecodeError as exc:
            # Read as much again as is held: a long member is decoded a few times, not once a chunk.
            more = file.read(max(CHUNK, len(held) - at))
            if not more:
                raise ValueError(f"{exc.msg}, at line {before + held.count(chr(10), 0, exc.pos) + 1}") from None
            before += held.count("\n", 0, at)
            held, at = held[at:] + more, 0
            continue
        yield value, decoder.twice
        at, empty = end + 1, False
        if held[end] == "]":
            break
    if held[at:].strip(WHITE) or file.read().strip(WHITE):
        raise ValueError("there is more after the end of the list")


def _skip(held: str, at: int) -> int:
    while at < len(held) and held[at] in WHITE:
        at += 1
    return at
