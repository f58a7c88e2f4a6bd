"""Products of curation: every row is in data/ or in quarantine/, or the job fails."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import LedgerError
from pipelines.core.records import EXAMPLE
from pipelines.curation.publish import publish

MANIFEST = {"fingerprint": "f", "sources": {"a": {"task": "pairwise", "license": "MIT"}}, "generator": "g"}


def write(folder: Path, statuses: list[str]) -> Path:
    folder.mkdir()
    rows = [{"row_id": str(n), "source": "a", "status": status} for n, status in enumerate(statuses)]
    pq.write_table(pa.Table.from_pylist(rows, schema=EXAMPLE), folder / "part.parquet")
    return folder


def test_pairs_and_quarantine_add_up(tmp_path: Path) -> None:
    first = write(tmp_path / "first", ["ok", "ok", "filtered:script", "error:mapping"])
    last = write(tmp_path / "last", ["ok", "filtered:inconsistent_chosen"])
    ledger = {"first": {"a": {"in": 4}}, "last": {"a": {"in": 2}}}
    data = publish(tmp_path / "out", ledger, {"first": first, "last": last}, MANIFEST)
    # `first`'s ok rows went on to `last`: only the last segment's ok rows are pairs.
    assert pq.read_table(data).num_rows == 1
    quarantine = pq.read_table(tmp_path / "out" / "quarantine")["status"].to_pylist()
    assert sorted(quarantine) == ["error:mapping", "filtered:inconsistent_chosen", "filtered:script"]
    totals = json.loads((tmp_path / "out" / "ledger.json").read_text())["total"]
    assert totals == {"a": {"in": 4, "pairs": 1, "filtered": 2, "error": 1}}
    assert "| a | pairwise | MIT | 4 | 1 | 2 | 1 |" in (tmp_path / "out" / "README.md").read_text()


def test_unbalanced_ledger_fails_the_job(tmp_path: Path) -> None:
    first = write(tmp_path / "first", ["ok", "filtered:script"])
    with pytest.raises(LedgerError, match=r"source 'a'.*does not balance"):
        publish(tmp_path / "out", {"first": {"a": {"in": 5}}}, {"first": first}, MANIFEST)
    assert not (tmp_path / "out" / "ledger.json").exists()


def test_no_pairs_at_all_still_leaves_readable_files(tmp_path: Path) -> None:
    first = write(tmp_path / "first", ["filtered:script"])
    data = publish(tmp_path / "out", {"first": {"a": {"in": 1}}}, {"first": first}, MANIFEST)
    assert pq.read_table(data).num_rows == 0
