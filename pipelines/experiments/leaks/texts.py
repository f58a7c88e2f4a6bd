"""Every text that a record holds, as it is and as it reads once the escapes of HTML and JSON are undone."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.datasets.columns import storable

DEPTH = 4  # JSON within a text within JSON, and so on
TAG = re.compile(r"<(?:/?[A-Za-z]|!)[^<>]{0,1000}>")
ESCAPE = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\[nrt\"'/\\]")
LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


def texts_in(value: Any, depth: int = DEPTH) -> Iterator[str]:
    """Every text anywhere in a record, in order: its values, its keys, and what texts that are JSON hold.

    A list of single words is a text too: a prompt may have been cut into them.

    Args:
        value: of the record, or the record.
        depth: how often a text is read as JSON.

    Raises:
        RecursionError: lists and mappings are too deep within each other.
    """
    if isinstance(value, str):
        yield value
        yield from _held(value, depth)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            yield from texts_in(key, 0) if isinstance(key, str) else ()
            yield from texts_in(one, depth)
    elif isinstance(value, (list, tuple)):
        for one in value:
            yield from texts_in(one, depth)
        if len(value) > 1 and all(isinstance(one, str) and len(one.split()) < 2 for one in value):
            yield " ".join(value)


def _held(text: str, depth: int) -> Iterator[str]:
    """The texts of a text that is a JSON object or list."""
    if depth and text.lstrip()[:1] in ("{", "["):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return
        yield from texts_in(value, depth - 1)


def forms(text: str) -> Iterator[str]:
    """A text as it is, and as it reads without escapes: what it was before it went into a page or a JSON text."""
    yield text
    if "\\" in text:
        yield ESCAPE.sub(_letter, text)
    if "&" in text or "<" in text:
        read = html.unescape(text)
        yield read
        # An escaped page escapes its entities again, and its tags are such only once they are read.
        yield html.unescape(TAG.sub(" ", read))


def _letter(escape: re.Match[str]) -> str:
    """What a backslash and the letters behind it stand for; halves of a letter beyond 16 bits are put together."""
    found = escape.group()
    if found[1] != "u":
        return LETTERS.get(found[1], found[1])
    units = "".join(chr(int(four, 16)) for four in found.split("\\u")[1:])
    return str(storable(units.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))[0])
