"""Duplicates, near duplicates and conflicts: what follows depends on the rows they list, not on how they were found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.core.records import EXAMPLE
from pipelines.core.segment import Rows
from pipelines.core.stage import to_table
from pipelines.curation.config import NearDuplicatesConfig
from pipelines.curation.conflicts import Conflicts
from pipelines.curation.duplicates import Duplicates
from pipelines.curation.near_duplicates import NearDuplicates

TEXT = " ".join(f"word{number}" for number in range(100))
Steps = tuple[str, ...]


class Remote:
    """A function that runs where it is called."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.remote = function


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's tasks run in this process."""
    import ray

    monkeypatch.setattr(ray, "remote", lambda *given, **named: Remote(*given) if given else Remote)
    monkeypatch.setattr(ray, "get", lambda found: found)


def lists(folder: Path, rows: list[tuple[str, str, str]], order: Steps = ("a", "b"), threshold: float = 0.9) -> str:
    """Fingerprint after all three, of rows (source, instruction, verdict)."""
    (folder / "rows").mkdir(exist_ok=True)
    made = [
        {"raw_id": f"{source}:{at}", "source": source, "task": "classification", "instruction": text, "status": "ok"}
        | {"responses": ["r"], "allowed": ["Yes", "No"], "verdict": verdict, "content_hash": text + verdict}
        for at, (source, text, verdict) in enumerate(rows)
    ]
    pq.write_table(to_table(made, EXAMPLE), folder / "rows" / "0.parquet")
    found = Rows(folder / "rows", "before")
    for one in (Duplicates(order), NearDuplicates(order, NearDuplicatesConfig(threshold=threshold)), Conflicts()):
        found = one.run(folder / "work", found)
    return found.fingerprint


APART = [("a", TEXT, "Yes"), ("a", f"{TEXT} more", "Yes"), ("b", "Something else.", "No"), ("b", "x", "Yes")]


@pytest.mark.parametrize("change", [{"order": ("b", "a")}, {"threshold": 0.95}])
def test_another_order_or_threshold_that_lists_the_same_rows_changes_nothing(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    assert lists(tmp_path, APART) == lists(tmp_path, APART, **change)


@pytest.mark.parametrize("change", [{"order": ("b", "a")}, {"threshold": 0.999}])
def test_one_that_lists_other_rows_changes_what_follows_and_back(tmp_path: Path, change: dict[str, Any]) -> None:
    shared = [("a", TEXT, "Yes"), ("b", f"{TEXT} more", "Yes"), ("b", "x", "Yes"), ("a", "x", "No")]
    first = lists(tmp_path, shared)
    assert lists(tmp_path, shared, **change) != first
    assert lists(tmp_path, shared) == first
