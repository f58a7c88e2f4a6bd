"""Benchmark rows that do not fit a judge's context: not asked, told before its engine starts, and unread."""

from __future__ import annotations

from collections import Counter

import pyarrow.compute as pc

from pipelines.core import storage
from pipelines.core.records import OK
from pipelines.core.storage import Place
from pipelines.engines.llm.fits import FitsJudge


def too_long(stage: FitsJudge, rows: Place, judge: str) -> list[str]:
    """A line for each benchmark some of whose rows do not fit a judge, with the length that would fit.

    Args:
        stage: of the judge.
        rows: folder of the rows to be asked about.
        judge: its name.
    """
    columns = ["benchmark", *stage.reads]
    asked, long, longest = Counter[str](), Counter[str](), Counter[str]()
    for file in storage.files(rows, ".parquet"):
        found = storage.read_table(file, columns, pc.field("status") == OK).to_pylist()
        for row, needed in zip(found, stage.needed(found), strict=True):
            name = row["benchmark"]
            asked[name] += 1
            if needed > stage.room:
                long[name] += 1
                longest[name] = max(longest[name], needed)
    return [
        f"{name}: {count} of {asked[name]} prompts do not fit {judge} in max_model_len {stage.room}; they count as "
        f"unread (evaluation.engine.max_model_len={longest[name]} would fit them all)"
        for name, count in long.items()
    ]
