"""A judged row, and what its values may be."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.core.determinism import digest


@dataclass(frozen=True)
class Judged:
    """A response with its judgment.

    Attributes:
        id: by which labels name it.
        system: whose response it is.
        prompt: the cluster.
        score: of the judge.
        label: of a person; None where nobody has looked.
        where: file and line, for a person.
    """

    id: str
    system: str
    prompt: str
    score: float
    label: float | None
    where: str = field(default="", compare=False)


def given(value: Any) -> Any:
    """A value; None where it is a blank text, which is how CSV says that there is none."""
    return None if isinstance(value, str) and not value.strip() else value


def number(value: Any) -> float:
    """A score or label.

    Raises:
        ValueError: it is no finite number.
    """
    # Python takes 4_5 for 45; in a file it is rather a slip of the hand.
    found = math.nan if isinstance(value, bool) or (isinstance(value, str) and "_" in value) else float(value)
    if not math.isfinite(found):
        raise ValueError(f"{value!r} is no number")
    return found


def named(rows: Iterable[Judged]) -> list[Judged]:
    """The rows, those without an id with one of their content; it is also the prompt where there is none.

    Not of their position: a record put in front would move every label to another row. Rows that have system, prompt
    and score in common are counted; which of them has a label changes no figure.
    """
    seen: Counter[tuple[str, str, float]] = Counter()
    found = []
    for row in rows:
        key = (row.system, row.prompt, row.score)
        # With a word before it, since a spreadsheet takes 12e34 for a number.
        own = row.id or f"row-{digest('judged row', *key, seen[key])}"
        seen[key] += not row.id
        found.append(replace(row, id=own, prompt=row.prompt or own))
    return found
