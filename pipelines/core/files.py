"""Atomic small files: a reader sees the old content or the new, never a half."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


class Version(NamedTuple):
    """A file as it is now: the key of what is read from it once a process."""

    path: str
    changed: int
    size: int


def version(path: Path) -> Version:
    """The file's path, time of change and size."""
    stat = path.stat()
    return Version(str(path), stat.st_mtime_ns, stat.st_size)
