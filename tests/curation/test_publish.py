"""Products of curation: every row is in data/ or in quarantine/, or the job fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import step
from pipelines.core.errors import LedgerError
from pipelines.core.records import CACHED, PAIR, PAIRED, UNPUBLISHED
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.core.storage import read_json
from pipelines.curation.config import CurationConfig
from pipelines.curation.publish import Publish, publish
from pipelines.curation.registry import load_sources

MANIFEST = {"fingerprint": "f", "sources": {"a": {"task": "pairwise", "license": "MIT"}}, "generator": "g"}


def written(
    folder: Path, statuses: list[str], entry: dict[str, Any], schema: pa.Schema = PAIR, source: str = "a", **more: Any
) -> Rows:
    """What a finished step leaves: rows of one source, and its ledger entry."""
    rows = [
        {"row_id": str(n), "source": source, "status": status, "format": "cot", "verdict": "AB"[n % 2], **more}
        for n, status in enumerate(statuses)
    ]

    def write(folder: Path) -> dict[str, Any]:
        (folder / "rows").mkdir()
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "rows" / "part.parquet")
        return {"ledger": {source: entry}}

    return Rows(folder / "rows", step.once(folder, {}, write)["fingerprint"])


def test_pairs_and_quarantine_add_up(tmp_path: Path) -> None:
    first = written(tmp_path / "first", ["ok", "ok", "filtered:script", "error:mapping"], {"in": 4})
    last = written(tmp_path / "last", ["ok", "filtered:inconsistent_chosen"], {"in": 2})
    publish(tmp_path / "out", [first, last], MANIFEST)
    # `first`'s ok rows went on to `last`: only the last step's ok rows are pairs.
    assert pq.read_table(tmp_path / "out" / "data").num_rows == 1
    quarantine = pq.read_table(tmp_path / "out" / "quarantine")["status"].to_pylist()
    assert sorted(quarantine) == ["error:mapping", "filtered:inconsistent_chosen", "filtered:script"]
    ledger = read_json(tmp_path / "out" / "ledger.json")
    assert ledger["total"] == {"a": {"in": 4, "pairs": 1, "filtered": 2, "error": 1}}
    assert ledger["segments"] == {"first": {"a": {"in": 4}}, "last": {"a": {"in": 2}}}
    assert "| a | pairwise | MIT | 4 | 1 | 2 | 1 |" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_tells_of_contradicting_labels(tmp_path: Path) -> None:
    first = written(tmp_path / "first", ["ok"], {"in": 1})
    config = {"clean": {"conflicts": "majority"}}
    publish(tmp_path / "out", [first], {**MANIFEST, "conflicts": {"a": 3, "b": 2}, "config": config})
    assert "(the commonest label kept): a 3, b 2." in (tmp_path / "out" / "README.md").read_text()


def test_unbalanced_ledger_fails_the_job(tmp_path: Path) -> None:
    first = written(tmp_path / "first", ["ok", "filtered:script"], {"in": 5})
    with pytest.raises(LedgerError, match=r"source 'a'.*does not balance"):
        publish(tmp_path / "out", [first], MANIFEST)
    assert not (tmp_path / "out" / "ledger.json").exists()


def test_no_pairs_at_all_still_leaves_readable_files(tmp_path: Path) -> None:
    publish(tmp_path / "out", [written(tmp_path / "first", ["filtered:script"], {"in": 1})], MANIFEST)
    assert pq.read_table(tmp_path / "out" / "data").num_rows == 0


def test_what_an_interrupted_job_published_is_replaced(tmp_path: Path) -> None:
    publish(tmp_path / "out", [written(tmp_path / "other", ["ok", "ok"], {"in": 2})], MANIFEST)
    publish(tmp_path / "out", [written(tmp_path / "first", ["ok"], {"in": 1})], MANIFEST)
    assert pq.read_table(tmp_path / "out" / "data").num_rows == 1


def test_columns_are_a_pairs_then_those_of_further_stages_without_the_unpublished(tmp_path: Path) -> None:
    further = [pa.field("language", pa.string()), pa.field("cost", pa.float64(), metadata=UNPUBLISHED)]
    schema = pa.schema([*PAIR, *further])
    first = written(tmp_path / "first", ["ok", "filtered:x"], {"in": 2}, schema, language="en", cost=1.0)
    publish(tmp_path / "out", [first], MANIFEST)
    hidden = {column.name for column in PAIR if column.metadata}
    assert {column.name for column in CACHED} < hidden and "chosen_thoughts" in hidden
    for folder in ("data", "quarantine"):
        found = pq.read_table(tmp_path / "out" / folder)
        assert found.column_names == [name for name in PAIR.names if name not in hidden] + ["language"]
        assert found["language"].to_pylist() == ["en"]
    assert found.column_names[16:21] == ["status", "overlaps", "rewards", "reward_objectives", "reward_model"]
    assert found.column_names[-len(PAIRED) - 1 : -1] == [column.name for column in PAIRED]


def test_the_card_says_why_rows_left_how_labels_balance_and_how_good_the_checker_is(tmp_path: Path) -> None:
    statuses = ["ok", "ok", "ok", "filtered:script"]
    first = written(tmp_path / "first", statuses, {"in": 4, "reasons": {"filtered:script": 1}})
    found = {"n": 50, "rate": 0.9, "interval": (0.8, 0.95), "corrected": 0.02, "corrected_interval": (0.0, 0.08)}
    quality = {"negatives": found, "positives": found, "tells_apart": True, "sources": {"a": {"chosen": found}}}
    publish(tmp_path / "out", [first], MANIFEST, quality)
    text = (tmp_path / "out" / "README.md").read_text()
    assert "| a | first | `filtered:script` | 1 |" in text
    assert "| a | cot | A | 2 |" in text and "| a | cot | B | 1 |" in text
    assert "| a | chosen | 50 | 90.0% (80.0–95.0, n = 50) | 2.0% (0.0–8.0, n = 50) |" in text
    publish(tmp_path / "out", [first], MANIFEST, {**quality, "tells_apart": False})
    assert "its results for the critiques are not shown" in (tmp_path / "out" / "README.md").read_text()


SAMPLE = "sample_pairwise"


def published(tmp_path: Path) -> tuple[Run, Rows, Rows]:
    """The step itself, after two others."""
    run = Run(tmp_path, seed=5)
    counts = {"synthesis_prompt_tokens": 8, "synthesis_tokens": 10, "synthesis_cached_tokens": 4}
    columns = {"chosen_consistent": True, "overlaps": ["b"], **counts}
    schema = pa.schema(list(PAIR)[:17])
    first = written(run.work / "first", ["ok", "filtered:script"], {"in": 2}, schema, source=SAMPLE)
    last = written(run.work / "last", ["ok"], {"in": 1}, source=SAMPLE, **columns)
    before = Rows(last.folder, "before", (first,))
    made = Publish(run, CurationConfig(sources=[SAMPLE]), load_sources([SAMPLE])).run(run.work, before)
    return run, made, before


def test_the_step_reports_what_the_steps_before_it_found(tmp_path: Path) -> None:
    run, made, before = published(tmp_path)
    assert made.folder == run.pairs and made.earlier == (*before.earlier, before)
    manifest = read_json(run.curated / "manifest.json")
    assert (manifest["fingerprint"], manifest["seed"], manifest["reward_model"]) == ("before", 5, "embedded")
    assert manifest["sources"] == {SAMPLE: {"task": "pairwise", "license": "Apache-2.0"}}
    expected = {"tokens": 10, "prompt_tokens": 8, "cached_tokens": 4, "prefix_cache_hit_rate": 0.5}
    assert manifest["synthesis"] == expected
    assert read_json(run.curated / "contamination.json") == {SAMPLE: {"b": {"rows": 1, "instructions": 0}}}
    assert read_json(run.curated / "checker.json")["sources"][SAMPLE]["chosen"]["n"] == 1


def test_a_published_set_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, made, _ = published(tmp_path)
    (run.curated / "README.md").unlink()
    step_again = Publish(run, CurationConfig(), load_sources([SAMPLE])).run(run.work, made.earlier[-1])
    assert step_again == made
    assert not (run.curated / "README.md").exists()
    assert "publish: already done, 1 rows" in capsys.readouterr().err


def test_the_set_loads_as_a_dataset(tmp_path: Path) -> None:
    import datasets

    run, _, _ = published(tmp_path)
    loaded = datasets.load_dataset(str(run.curated), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.num_rows == 1 and {"prompt", "chosen", "rejected"} <= set(loaded.column_names)
