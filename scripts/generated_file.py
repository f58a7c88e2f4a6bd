"""The command line of a script that writes one file of the repository from the code."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path


def generate(what: str, text: Callable[[], str], output: Path, arguments: Sequence[str] | None = None) -> int:
    """Write the file, or with `--check` say whether it would change.

    Args:
        what: the script does.
        text: gives the file's content.
        output: the file, where `--output` names no other.
        arguments: of the command line.

    Returns:
        The exit code: 1 where the file is out of date.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file would change")
    parser.add_argument("--output", type=Path, default=output)
    options = parser.parse_args(arguments)
    content = text()
    if options.check:
        current = options.output.read_text(encoding="utf-8") if options.output.exists() else ""
        print("up to date" if content == current else f"{options.output.name} is out of date: run `make docs`")
        return 0 if content == current else 1
    options.output.write_text(content, encoding="utf-8")
    print(f"wrote {options.output.name}")
    return 0
