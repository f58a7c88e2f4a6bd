"""Leaks on a real cluster: planted rows of a packaged benchmark are found, whatever form they have, and kept out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Config, load_config
from pipelines.core.run import Run
from pipelines.evaluation.asking.benchmark_texts import texts_of
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.experiments.records import record
from ray_jobs.leaks import leaks

from .conftest import LOCAL

OWN = "A text of our own about number {n}, which no benchmark has and which is as long as a prompt may well be, {n}"


def planted() -> list[str]:
    """Prompts of a packaged benchmark that are long enough to be told from a form."""
    texts = texts_of(BENCHMARKS.load("heldout_classification"), None)
    return sorted(text for text in texts if len(text.split()) >= 16)[:4]


def edited(text: str) -> str:
    """The text with one word in eight changed: no run of eight words is left."""
    return " ".join("changed" if place % 8 == 7 else word for place, word in enumerate(text.split()))


@pytest.fixture(scope="module")
def config(own_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Config:
    import ray

    ray.shutdown()  # of the modules before
    folder = tmp_path_factory.mktemp("leaks")
    exact, inside, near, chat = planted()
    records: list[Any] = [{"id": n, "prompt": OWN.format(n=n)} for n in range(40)]
    records[3] = {"id": 3, "prompt": exact}
    records[11] = {"id": 11, "prompt": f"Judge this. {inside} Is it right, and why do you think so?", "answer": "Yes"}
    records[17] = {"id": 17, "rows": [{"deep": [edited(near)]}]}
    records[23] = {"id": 23, "messages": [{"role": "user", "content": chat}, {"role": "assistant", "content": "No"}]}
    (folder / "set.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    overrides = [f"out_dir={folder / 'out'}", f"leaks.sets={folder / 'set.jsonl'}", "leaks.embeddings.enabled=false"]
    overrides += ["ray.dashboard=false", "leaks.rows_per_block=16", "data_root=null"]
    overrides += ["curation.clean.decontaminate.ngram=8"]
    return load_config(LOCAL, overrides)


def test_planted_leaks_are_found_and_kept_out(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    leaks(config)
    folder: Path = Run(config.out_dir).leaks  # type: ignore[assignment]
    (clean,) = (folder / "clean").iterdir()
    left = [json.loads(line)["id"] for line in clean.read_text().splitlines()]
    assert left == [n for n in range(40) if n not in (3, 11, 17, 23)]
    found = json.loads((folder / "leaks.json").read_text())
    assert (found["rows"], found["kept_out"], found["errors"]) == (40, 4, 0)
    assert set(found["found"]["heldout_classification"]) >= {"exact", "coverage", "near_duplicate"}
    assert record.read(folder).decisions[0].verdict == "keep 4 rows out"
    before = (folder / "report.html").stat().st_mtime_ns
    leaks(config)
    assert (folder / "report.html").stat().st_mtime_ns == before
