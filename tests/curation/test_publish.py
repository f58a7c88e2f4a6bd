"""Products of curation: every row is in data/ or in quarantine/, or the job fails."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import LedgerError
from pipelines.curation.publish import FULL, publish

MANIFEST = {"fingerprint": "f", "sources": {"a": {"task": "pairwise", "license": "MIT"}}, "generator": "g"}


def write(folder: Path, statuses: list[str]) -> Path:
    folder.mkdir()
    rows = [
        {"row_id": str(n), "source": "a", "status": status, "format": "cot", "verdict": "AB"[n % 2]}
        for n, status in enumerate(statuses)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=FULL), folder / "part.parquet")
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


def test_the_card_says_why_rows_left_how_labels_balance_and_how_good_the_checker_is(tmp_path: Path) -> None:
    first = write(tmp_path / "first", ["ok", "ok", "ok", "filtered:script"])
    ledger = {"first": {"a": {"in": 4, "reasons": {"filtered:script": 1}}}}
    found = {"n": 50, "rate": 0.9, "interval": (0.8, 0.95), "corrected": 0.02, "corrected_interval": (0.0, 0.08)}
    quality = {"negatives": found, "positives": found, "tells_apart": True, "sources": {"a": {"chosen": found}}}
    publish(tmp_path / "out", ledger, {"first": first}, MANIFEST, quality)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| a | first | `filtered:script` | 1 |" in text
    assert "| a | cot | A | 2 |" in text and "| a | cot | B | 1 |" in text
    assert "| a | chosen | 50 | 90.0% (80.0–95.0, n = 50) | 2.0% (0.0–8.0, n = 50) |" in text
    publish(tmp_path / "out", ledger, {"first": first}, MANIFEST, {**quality, "tells_apart": False})
    assert "worth nothing and is not shown" in (tmp_path / "out" / "README.md").read_text()


def test_the_set_loads_as_a_dataset(tmp_path: Path) -> None:
    import datasets

    first = write(tmp_path / "first", ["ok", "ok", "filtered:script"])
    publish(tmp_path / "out", {"first": {"a": {"in": 3}}}, {"first": first}, MANIFEST)
    loaded = datasets.load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 2 and {"prompt", "chosen", "rejected"} <= set(loaded.column_names)
