"""Files as their content is: decompressed, and decoded by their own mark of encoding."""

from __future__ import annotations

import codecs
import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import PurePath
from typing import IO, Any, BinaryIO, TextIO

from pipelines.core import storage
from pipelines.core.errors import UserError, unreadable
from pipelines.core.storage import Place

# How compressed files begin. Names do not decide: a download may have been unpacked, or renamed.
BEGINNINGS = {
    "gzip": re.compile(rb"\x1f\x8b\x08"),
    "bz2": re.compile(rb"BZh[1-9]1AY"),
    "xz": re.compile(rb"\xfd7zXZ\x00"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
}
_LEFT_OUT = re.compile(r"/$|^__MACOSX/|(?:^|/)\.")  # of a zip: folders, and what macOS adds
MARKS = {  # the longer ones first: UTF-32's begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def plain_name(path: PurePath | Place) -> PurePath:
    """The name without the suffix of a compression: `rows.jsonl` of `rows.jsonl.gz`."""
    return PurePath(path.stem if _by_name(path) else path.name)


def compression(path: Place) -> str | None:
    """How a file is compressed, by its content or else its name; None where it is not."""
    with storage.opened(path) as raw:
        return _by_content(raw.read(8)) or _by_name(path)


def _by_content(begins: bytes) -> str | None:
    return next((name for name, mark in BEGINNINGS.items() if mark.match(begins)), None)


@contextmanager
def binary(path: Place, whole: bool = False) -> Iterator[BinaryIO]:
    """The bytes of a file, decompressed as they are read.

    Args:
        path: the file.
        whole: hold what was compressed in memory, for formats that are not read from beginning to end.

    Raises:
        UserError: its name says that it is compressed and its content that it is not; or a zip of several files.
    """
    with ExitStack() as stack:
        raw: Any = stack.enter_context(storage.opened(path))
        begins, named = raw.read(8), _by_name(path)
        codec = _by_content(begins)
        if codec is None and named in BEGINNINGS and begins:
            raise UserError(f"its name says {named}, its content does not", where=str(path), fix="rename it")
        raw.seek(0)
        if named == "zip":
            raw = stack.enter_context(_only_member(path, raw))
            raw = io.BytesIO(raw.read()) if whole else raw
        elif codec := codec or named:
            raw = stack.enter_context(_codecs()[codec](raw, mode="r"))
            raw = io.BytesIO(raw.read()) if whole else raw
        yield raw


def _only_member(path: Place, raw: BinaryIO) -> IO[bytes]:
    """The one file of a zip; folders and what macOS adds are none.

    Raises:
        UserError: there are several, or none; or it is no zip, or a locked one.
    """
    try:
        archive = zipfile.ZipFile(raw)
        members = [one for one in archive.namelist() if not _LEFT_OUT.search(one)]
        if len(members) != 1:
            fix = "unpack it and name the files"
            raise UserError(f"a zip of {len(members)} files, and it is read as one", where=str(path), fix=fix)
        return archive.open(members[0])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as exc:  # cut off, of a method unknown, locked
        raise unreadable(path, "zip", exc) from None


@contextmanager
def text(path: Place, encoding: str | None = None) -> Iterator[TextIO]:
    """The text of a file, its line ends unchanged.

    Bytes that are not of the encoding become lone surrogates, so that they spoil one record and not the file.

    Args:
        path: the file.
        encoding: in place of UTF-8; a mark at the file's beginning comes first.
    """
    with binary(path) as raw:
        head = raw.read(4)
    with binary(path) as raw:
        name = encoding_of(head, encoding)
        errors = "strict" if wide(name) else "surrogateescape"
        yield io.TextIOWrapper(raw, encoding=name, errors=errors, newline="")


def encoding_of(head: bytes, stated: str | None = None) -> str:
    """The encoding that a file's first four bytes show, or else the stated one, or UTF-8."""
    for mark, name in MARKS.items():
        if head.startswith(mark):
            return name
    if stated is None and len(head) >= 2 and (head[0] == 0) != (head[1] == 0):  # of two bytes a letter, without a mark
        return "utf-16-be" if head[0] == 0 else "utf-16-le"
    return stated or "utf-8"


def wide(encoding: str) -> bool:
    """Whether letters are more than a byte each, so that bytes cannot be cut into lines."""
    return encoding.startswith(("utf-16", "utf-32"))


def _by_name(path: PurePath | Place) -> str | None:
    from fsspec.utils import infer_compression  # type: ignore[import-untyped]

    _codecs()
    found: str | None = infer_compression(path.name)
    return found


@cache
def _codecs() -> dict[str, Any]:
    """fsspec's table of compressions, with Zstandard from Arrow where no other library has it."""
    import pyarrow as pa
    from fsspec.compression import compr, register_compression  # type: ignore[import-untyped]

    if "zstd" not in compr:
        register_compression("zstd", lambda raw, mode: io.BufferedReader(pa.CompressedInputStream(raw, "zstd")), "zst")
    table: dict[str, Any] = compr
    return table
