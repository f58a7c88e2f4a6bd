"""The batch job and the service say the same of the same rows, with the same model."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.config import load_config
from serve.client import Judge
from tests.integration.conftest import ROOT
from tests.integration.server import Server

TOPICS = ["a colour", "a number", "a city", "an animal"]


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number, topic in enumerate(TOPICS):
        shared = {"instruction": f"Name {topic}.", "rubric": "Is it what was asked for?"}
        found.append({"id": f"p{number}", "task": "pairwise", "responses": ["Blue.", "Oslo."], **shared})
        found.append({"id": f"a{number}", "task": "absolute", "response": "Blue.", **shared})
        found.append({"id": f"c{number}", "task": "classify", "response": "Oslo.", **shared})
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_job_and_service_agree(tmp_path: Path) -> None:
    import ray

    from ray_jobs.judge import judge as run_job

    ray.shutdown()
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows())))
    settings = [
        f"out_dir={tmp_path / 'out'}",
        f"judge.input={tmp_path / 'in.jsonl'}",
        f"judge.output={tmp_path / 'of'}",
    ]
    settings += ["judge.engine.dtype=float32", "judge.max_tokens=24", "judge.template=compact"]
    run_job(load_config(ROOT / "ray_jobs" / "configs" / "judge.yaml", settings))
    ray.shutdown()
    job = {row["id"]: row for row in pq.read_table(tmp_path / "of" / "data").to_pylist()}
    server = Server(tmp_path)
    try:
        with Judge(server.url, server.key) as judge:
            lines = [
                row | {"max_tokens": 24, "both_orders": True} if "responses" in row else row | {"max_tokens": 24}
                for row in rows()
            ]
            service = {line.id: line.result for line in judge.batch(lines)}
    finally:
        server.stop()
    assert set(job) == set(service) and len(job) == 12
    for name, row in job.items():
        said = service[name].results[0]  # type: ignore[union-attr]
        assert (said.verdict, said.critique) == (row["verdict"], row["critique"]), name
        for label, share in dict(row["probabilities"]).items():
            assert math.isclose(said.probabilities[label], share, abs_tol=1e-4), name
