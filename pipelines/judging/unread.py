"""What to show of an answer that no verdict could be read from."""

from __future__ import annotations

SHOWN = 80  # characters


def last_line(text: str | None) -> str:
    """The last line that is not blank, with single spaces and at most SHOWN characters, so that equal ones count."""
    lines = (text or "").strip().splitlines()
    line = " ".join(lines[-1].split()) if lines else ""
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
