"""The audit with a real engine as the blind checker, and the page of its sample."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from pipelines.config import Config, load_config
from pipelines.experiments.records import record
from ray_jobs.audit import audit
from serve.audit.launch import describe
from tests.experiments.audit_rows import pair, write

from .conftest import LOCAL


@pytest.fixture(scope="module")
def audited(own_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Config:
    import ray

    ray.shutdown()  # of the modules before
    out = tmp_path_factory.mktemp("audited")
    write(out, [pair(n) for n in range(12)])
    engine = "{max_model_len: 1024, max_num_seqs: 32, batch_size: 8, concurrent_batches: 8}"
    settings = [f"out_dir={out}", "ray.dashboard=false", "audit.rows=8", "audit.people=4", f"audit.engine={engine}"]
    config = load_config(LOCAL, settings)
    audit(config)
    return config


def test_the_checker_reads_every_critique_of_the_sample_and_the_record_says_who_it_was(audited: Config) -> None:
    folder: Path = audited.run.audit  # type: ignore[assignment]
    found = json.loads((folder / "audit.json").read_text())
    assert found["pairs"] == 8
    blind = next(one for one in found["sides"] if one["measure"] == "blind")
    assert blind["n"] == 8 and 0 <= blind["chosen"] <= 1 and 0 <= blind["rejected"] <= 1
    kept = record.read(folder)
    assert kept.cost.tokens > 0 and kept.notes[0] == f"Checker: {audited.audit.engine.model}."
    assert (folder / "audit.html").read_text().count("the checker reads:") == 16


def test_a_second_run_asks_nothing_and_the_page_shows_the_same_sample(audited: Config) -> None:
    start = time.monotonic()
    audit(audited)
    assert time.monotonic() - start < 10
    assert describe(audited.run, audited.audit)[0].startswith("show 4 pairs at http://127.0.0.1:8020/")
    other = audited.audit.model_copy(update={"rows": 5})
    assert describe(audited.run, other)[0].startswith("show 4 pairs")
