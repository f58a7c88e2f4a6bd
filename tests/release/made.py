"""A finished run without engines: judgments by rule, their results, a tiny model, a curated set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.config import Config
from pipelines.core import storage
from pipelines.core.determinism import unit
from pipelines.core.records import OK, Row
from pipelines.core.run import Run
from pipelines.core.stage import to_table
from pipelines.core.step import once
from pipelines.engines.models import identity
from pipelines.evaluation.asking.benchmark_rows import BENCHMARK_ROW, write_benchmark_rows
from pipelines.evaluation.asking.judgments import JUDGMENT, write_judgments
from pipelines.evaluation.scoring.results import summarise

PUBLIC = """
name: public_pairs
task: pairwise
about: Pairs for a test.
files: [public_pairs.jsonl]
license: MIT
published: 2024
allowed: [A, B]
expected_n: 30
metric: accuracy
template: pairwise_compact
fields: {instruction: record.q, responses: "[record.a, record.b]", verdict: record.v}
"""


def public_benchmark(folder: Path) -> str:
    """A benchmark that is not packaged; path of its YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"q": f"question {n}", "a": "yes", "b": f"no {n}", "v": "AB"[n % 2]} for n in range(30)]
    (folder / "public_pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "public.yaml").write_text(PUBLIC)
    return str(folder / "public.yaml")


def config_of(folder: Path, benchmarks: list[str], **sections: Any) -> Config:
    """A config with these benchmarks."""
    raw = {
        "out_dir": folder / "out",
        "data_root": folder / "data",
        "curation": {"sources": []},
        "evaluation": {"benchmarks": benchmarks, "format": "judgment_only"},
        **sections,
    }
    return Config.model_validate(raw)


def judged(row: Row, right: float) -> Row:
    """The row with the gold verdict for a share of rows, chosen by hash."""
    others = [verdict for verdict in row["allowed"] if verdict != row["gold"]]
    good = unit(0, "made", row["judgment_id"]) < right
    verdict = row["gold"] if good else others[0]
    probs = {one: 0.8 if one == verdict else 0.2 / len(others) for one in row["allowed"]}
    return {**row, "raw": verdict, "predicted": verdict, "parse_status": OK, "verdict_probs": list(probs.items())}


def benchmarked(config: Config, model: str) -> Run:
    """The products of a benchmark job in which `trained` is nearly always right and `base` half the time."""
    run = config.run
    rows = write_benchmark_rows(run, config.evaluation)
    table = storage.read_table(rows.folder, schema=BENCHMARK_ROW).to_pylist()
    places = {}
    for name, right in (("base", 0.5), ("trained", 0.9)):
        folder = run.work / f"judge-{name}"
        done = to_table([judged(row, right) for row in table], JUDGMENT)
        depends = {"judge": {"engine": {"model": identity(model)}}}
        once(folder, depends, lambda folder, done=done: storage.write_table(folder / "rows" / "a.parquet", done))
        places[name] = write_judgments(folder / "rows", rows.folder, run.judgments / f"{name}.parquet")
    storage.write_json(run.results, summarise(places, rows.folder, config.evaluation, 0).to_json())
    return run


def curated(run: Run, licences: dict[str, str], overlaps: dict[str, Any] | None = None) -> None:
    """A curated set of nothing but its papers."""
    sources = {name: {"task": "pairwise", "license": licence} for name, licence in licences.items()}
    clean = {"decontaminate": {"enabled": True, "ngram": 13}}
    manifest = {"fingerprint": "f", "sources": sources, "config": {"clean": clean}}
    storage.write_json(run.curated / "manifest.json", manifest)
    storage.write_json(run.curated / "contamination.json", overlaps or {})
    storage.write_text(run.curated / "README.md", "---\ntags: [x]\n---\n# Curated preference pairs\n")
    storage.write_bytes(run.pairs / "part-0.parquet", b"pairs")
