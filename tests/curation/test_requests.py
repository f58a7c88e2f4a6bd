"""What the stages ask of a store: something for a batch, nothing for a row."""

from __future__ import annotations

import uuid
from typing import Any

import pyarrow as pa
import pytest

from pipelines.core import storage
from pipelines.core.records import CONTRASTED, EXAMPLE, OVERLAPS, Row
from pipelines.core.stage import Stage, apply_stages
from pipelines.core.storage import Place, place, stores
from pipelines.curation.config import DecontaminateConfig
from pipelines.curation.conflicts import NoConflict
from pipelines.curation.decontaminate import Decontaminate
from pipelines.curation.duplicates import MarkDuplicates
from pipelines.curation.near_duplicates import NotNearDuplicate


@pytest.fixture
def lists() -> Place:
    """What the steps before have listed, in a store."""
    folder = place(f"memory://unit/{uuid.uuid4().hex}")
    listed = {"raw_id": ["x"], "rank": pa.array([1], pa.int32()), "outvoted": [True]}
    storage.write_table(folder / "rows.parquet", pa.table(listed))
    storage.write_table(folder / "texts.parquet", pa.table({"benchmark": ["b"], "text": ["a b c"]}))
    return folder


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every place that a store is asked for."""
    asked: list[object] = []
    patiently = stores.patiently

    def noted(call: Any, where: object) -> Any:
        asked.append(where)
        return patiently(call, where)

    monkeypatch.setattr(stores, "patiently", noted)
    return asked


def batch(count: int) -> list[Row]:
    blank: Row = dict.fromkeys([*EXAMPLE.names, *(column.name for column in [*CONTRASTED, *OVERLAPS])])
    return [{**blank, "raw_id": f"s:{n}", "row_id": f"{n}", "status": "ok", "instruction": "hi"} for n in range(count)]


def test_a_batch_of_many_rows_asks_for_no_more_than_one_of_few(lists: Place, requests: list[object]) -> None:
    stages: list[Stage] = [
        MarkDuplicates(lists / "rows.parquet"),
        NotNearDuplicate(lists / "rows.parquet"),
        NoConflict(lists / "rows.parquet", "majority"),
        Decontaminate(lists / "texts.parquet", DecontaminateConfig()),
    ]
    apply_stages(stages, batch(1))  # now what is listed is known
    requests.clear()
    apply_stages(stages, batch(1))
    few = len(requests)
    apply_stages(stages, batch(50))
    assert few > 0 and len(requests) == 2 * few
