"""A benchmark that is added to a run: it locks nothing, unless rows that are prepared already overlap with it."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.step import CLAIM, DONE
from pipelines.curation.config import DecontaminateConfig
from pipelines.curation.decontaminate import Decontaminate, still_clean

ADDED = "what is the best way to learn how to play the piano"


def check(folder: Path, done: bool = False, **rows: list[tuple[str, str]]) -> bool:
    """`still_clean` of a run with these steps begun or done, each with rows (instruction, status)."""
    run = Run(folder)
    texts = folder / "added.parquet"
    pq.write_table(pa.table({"benchmark": ["new"], "text": [ADDED]}), texts)
    for name, pairs in rows.items():
        (run.work / name / "rows").mkdir(parents=True)
        columns = {"instruction": [text for text, _ in pairs], "status": [status for _, status in pairs]}
        table = pa.table({**columns, "context": pa.nulls(len(pairs), pa.string())})
        pq.write_table(table, run.work / name / "rows" / "0.parquet")
        for marker in (CLAIM, DONE) if done else (CLAIM,):
            storage.write_json(run.work / name / marker, {"fingerprint": name})
    return still_clean(run, Decontaminate(texts, DecontaminateConfig()))


def test_before_anything_is_prepared_new_texts_are_looked_for_like_all_others(tmp_path: Path) -> None:
    assert check(tmp_path, ingest=[(ADDED, "ok")]) is False
    (Run(tmp_path).work / "prepare").mkdir()
    storage.write_json(Run(tmp_path).work / "prepare" / CLAIM, {})  # claimed, and stopped there
    assert still_clean(Run(tmp_path), Decontaminate(tmp_path / "added.parquet", DecontaminateConfig())) is False


def test_prepared_rows_without_them_stay_as_they_are(tmp_path: Path) -> None:
    rows = [("How do birds fly?", "ok"), (ADDED, "filtered:script")]
    assert check(tmp_path, done=True, ingest=[(ADDED, "ok")], prepare=rows) is True


def test_prepared_rows_with_them_are_refused_with_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"changed or were added since: new \(2 rows\)"):
        check(tmp_path, ingest=[(ADDED, "ok"), (f"{ADDED} quickly", "ok"), ("x", "ok")], prepare=[("x", "ok")])
