"""Files of requests, and the rows that are read from them without a cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.records import Row
from pipelines.core.run import Run
from pipelines.core.stage import to_table
from pipelines.datasets.reading import read_rows
from pipelines.judge_job.config import JudgeConfig
from pipelines.judge_job.requests import REQUEST, Requests

PAIR = {"task": "pairwise", "instruction": "Name a colour.", "responses": ["Red.", "Seven."]}
SCORE = {"task": "absolute", "instruction": "Name a colour.", "response": "Red.", "rubric": "Is it a colour?"}
LABEL = {"task": "classify", "instruction": "Name a colour.", "response": "Red.", "rubric": "Is it a colour?"}


def lines(records: list[Any]) -> str:
    return "".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records)


@pytest.fixture
def rows_of(tmp_path: Path) -> Callable[..., list[Row]]:
    """The rows of some records, given as a JSONL file, with exactly the columns of a request."""

    def read(records: list[Any], **settings: Any) -> list[Row]:
        path = tmp_path / "in.jsonl"
        path.write_text(lines(records), errors="surrogatepass")
        requests = Requests(Run(tmp_path / "out"), JudgeConfig(**{"input": str(path), **settings}))
        rows = [row for one in requests.readings() for row in read_rows(one)]
        found: list[Row] = to_table(rows, REQUEST).to_pylist()
        return found

    return read
