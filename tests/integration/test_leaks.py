"""Leaks on a real cluster: planted rows of a benchmark are found, whatever form they have, and kept out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Config, load_config
from pipelines.core.run import Run
from pipelines.experiments.records import record
from ray_jobs.leaks import leaks

from .conftest import LOCAL

OWN = "A text of our own about number {n}, which no benchmark has and which is as long as a prompt may well be, {n}"
PROMPTS = (
    "Explain to a child of seven why the sea is salt although all rivers that run into it carry sweet water down",
    "Plan a walk of three hours through an old harbour town that ends where one can eat fish beside the boats",
    "Compare two ways of keeping bread fresh for a week in summer and say which of them a baker would choose himself",
    "Tell how a wooden clock without a spring can run all night and what must be done to it on every single morning",
)
BENCHMARK = """
name: planted
task: absolute
files: [planted.jsonl]
license: none
published: 2024
allowed: 1..5
expected_n: 4
metric: pearson
fields:
  instruction: record.prompt
  responses: "['An answer.']"
  verdict: record.score
"""


def edited(text: str) -> str:
    """The text with one word in eight changed: no run of eight words is left."""
    return " ".join("changed" if place % 8 == 7 else word for place, word in enumerate(text.split()))


@pytest.fixture(scope="module")
def config(own_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Config:
    import ray

    ray.shutdown()  # of the modules before
    folder = tmp_path_factory.mktemp("leaks")
    lines = (json.dumps({"prompt": prompt, "score": 3}) + "\n" for prompt in PROMPTS)
    (folder / "planted.jsonl").write_text("".join(lines))
    (folder / "planted.yaml").write_text(BENCHMARK)
    exact, inside, near, chat = PROMPTS
    records: list[Any] = [{"id": n, "prompt": OWN.format(n=n)} for n in range(40)]
    records[3] = {"id": 3, "prompt": exact}
    records[11] = {"id": 11, "prompt": f"Judge this. {inside} Is it right, and why do you think so?", "answer": "Yes"}
    records[17] = {"id": 17, "rows": [{"deep": [edited(near)]}]}
    records[23] = {"id": 23, "messages": [{"role": "user", "content": chat}, {"role": "assistant", "content": "No"}]}
    (folder / "set.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    overrides = [f"out_dir={folder / 'out'}", f"leaks.sets={folder / 'set.jsonl'}", "leaks.embeddings.enabled=false"]
    overrides += ["ray.dashboard=false", "leaks.rows_per_block=16", f"data_root={folder}"]
    overrides += [f"evaluation.benchmarks=[{folder / 'planted.yaml'}]"]
    return load_config(LOCAL, overrides)


def test_planted_leaks_are_found_and_kept_out(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    leaks(config)
    folder: Path = Run(config.out_dir).leaks  # type: ignore[assignment]
    (clean,) = (folder / "clean").iterdir()
    left = [json.loads(line)["id"] for line in clean.read_text().splitlines()]
    assert left == [n for n in range(40) if n not in (3, 11, 17, 23)]
    found = json.loads((folder / "leaks.json").read_text())
    assert (found["rows"], found["kept_out"], found["errors"]) == (40, 4, 0)
    assert set(found["found"]["planted"]) >= {"exact", "coverage", "near_duplicate"}
    assert record.read(folder).decisions[0].verdict == "keep 4 rows out"
    before = (folder / "report.html").stat().st_mtime_ns
    leaks(config)
    assert (folder / "report.html").stat().st_mtime_ns == before
