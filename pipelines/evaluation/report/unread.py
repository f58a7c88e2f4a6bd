"""What the verdicts that could not be read look like: the commonest last lines, per model and benchmark."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pyarrow.compute as pc

from pipelines.core import storage
from pipelines.core.records import OK
from pipelines.core.storage import Place
from pipelines.engines.llm.ask import TOO_LONG
from pipelines.evaluation.asking.judgments import FAILED, JUDGMENT, SKIPPED
from pipelines.judging.parse import READ
from pipelines.judging.unread import last_line

SHOWN = 3  # lines of a model and benchmark
NOTHING = "(nothing, or thoughts that were cut off)"


@dataclass(frozen=True)
class UnreadLine:
    """A last line, and how many unread answers of a model end with it."""

    model: str
    benchmark: str
    line: str
    count: int
    unread: int


def unread_lines(judgments: dict[str, Place]) -> list[UnreadLine]:
    """The commonest last lines of unread answers; judgments without an answer are left out.

    Args:
        judgments: model -> its file of `write_judgments`.
    """
    found: list[UnreadLine] = []
    unread = (pc.field("status") == OK) & ~pc.field("parse_status").isin([*READ, SKIPPED, FAILED, TOO_LONG])
    for model, place in judgments.items():
        counts: dict[str, Counter[str]] = {}
        for row in storage.read_table(place, ["benchmark", "raw"], unread, JUDGMENT).to_pylist():
            counts.setdefault(row["benchmark"], Counter())[last_line(row["raw"]) or NOTHING] += 1
        for benchmark, lines in sorted(counts.items()):
            ranked = sorted(lines.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
            found += [UnreadLine(model, benchmark, line, count, lines.total()) for line, count in ranked]
    return found
