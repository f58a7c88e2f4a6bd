"""The batch judge on a real engine: three kinds of files, bad rows among them; again; and with another row."""

from __future__ import annotations

import csv
import gzip
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config import Config, load_config
from pipelines.core.storage import read_json

from .conftest import ROOT

PAIRS = [("a colour", "Red.", "Seven."), ("a number", "Blue.", "Seven."), ("a city", "Oslo.", "Stone.")]


def write_files(folder: Path) -> None:
    folder.mkdir()
    rubric = "Which response is right?"
    pairs = [
        {"id": f"p{n}", "task": "pairwise", "instruction": f"Name {what}.", "responses": [a, b], "rubric": rubric}
        for n, (what, a, b) in enumerate(PAIRS)
    ]
    pq.write_table(pa.Table.from_pylist(pairs), folder / "a.parquet")
    chat = [{"role": "user", "content": "Name a colour."}]
    scores: list[Any] = [
        {"id": n, "task": "absolute", "messages": chat, "response": said, "rubric": "Is it a colour?"}
        for n, said in enumerate(["Red.", "Seven."])
    ]
    lines = [*map(json.dumps, scores), "{broken", json.dumps({**scores[0], "id": "none", "response": None})]
    (folder / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    with (folder / "c.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "task", "instruction", "response", "responses", "rubric"])
        writer.writerow(["c1", "classify", "Name a colour.", "Red.", "", "Is it a colour?"])
        writer.writerow(["c2", "pairwise", "Name a colour.", "", '["Red.", "Seven."]', ""])
        writer.writerow(["long", "absolute", "word " * 1200, "x", "", ""])
        writer.writerow(["odd", "absolute"])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    import ray

    ray.shutdown()  # of the modules before
    folder = tmp_path_factory.mktemp("batch")
    write_files(folder / "in")
    settings = [f"out_dir={folder / 'out'}", f"judge.input={folder / 'in'}", "judge.max_tokens=8"]
    settings += ["max_error_share=0.4", "judge.rows_per_block=4", f"judge.output={folder / 'judged'}"]
    return load_config(ROOT / "ray_jobs" / "configs" / "judge.yaml", settings)


def judged(config: Config) -> list[dict[str, Any]]:
    from ray_jobs.judge import judge

    judge(config)
    assert config.judge.output
    rows: list[dict[str, Any]] = pq.read_table(config.judge.output / "data").to_pylist()
    return rows


@pytest.mark.timeout(600)
def test_files_are_judged_once_and_again_where_a_row_has_changed(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = judged(config), config.judge.output
    assert out
    assert [row["id"] for row in rows] == ["p0", "p1", "p2", "0", "1", "c1", "c2"]  # in the order of the input
    for row in rows:
        shares = dict(row["probabilities"])
        assert math.isclose(sum(shares.values()), 1, abs_tol=1e-6)
        assert row["parse_status"] in ("ok", "completed")
        assert row["verdict"] == max(shares, key=shares.__getitem__)
        assert len(row["orders"]) == (2 if row["task"] == "pairwise" else 1)
        assert (row["consistent"] is None) == (row["task"] != "pairwise")
        assert (row["expected_score"] is None) == (row["task"] != "absolute")
        assert row["prompt_tokens"] > 20 and row["template_digest"] and row["model_digest"]
    assert set(dict(rows[3]["probabilities"])) == {"1", "2", "3", "4", "5"}
    given, swapped = rows[0]["orders"]
    assert (given["verdict"] == swapped["verdict"]) is rows[0]["consistent"]

    lost = pq.read_table(out / "quarantine").to_pylist()
    assert [(row["id"], row["status"].split(":")[:3], Path(row["file"]).name, row["row"]) for row in lost] == [
        (None, ["error", "invalid_json"], "b.jsonl.gz", "line 3"),
        ("none", ["error", "request", "no_response"], "b.jsonl.gz", "line 4"),
        (None, ["error", "wrong_number_of_cells"], "c.csv", "line 5"),
        ("long", ["filtered", "too_long"], "c.csv", "line 4"),
    ]
    assert read_json(out / "ledger.json")["total"] == {"in": 11, "judged": 7, "filtered": 1, "error": 3}
    manifest = read_json(out / "manifest.json")
    assert 0 < manifest["cached_tokens"] < manifest["prompt_tokens"], "the second order finds the first one's prompt"

    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    capsys.readouterr()
    assert judged(config) == rows
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    assert "judge: already done, 8 rows" in capsys.readouterr().err

    first = Path(config.judge.input[0]) / "d.json"
    first.write_text(json.dumps([{"id": "new", "task": "classify", "instruction": "Q", "response": "x"}]))
    more = judged(config)
    assert [row["id"] for row in more] == [*(row["id"] for row in rows), "new"]
    assert [row["verdict"] for row in more[:-1]] == [row["verdict"] for row in rows]
    first.unlink()  # and back: what was judged before is not judged again
    capsys.readouterr()
    assert judged(config) == rows
    assert "judge: already done, 8 rows" in capsys.readouterr().err
