"""The audit of a finished run's critiques, with a real engine as the blind checker; and the page of its sample."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.config import Config
from pipelines.experiments.records import record
from ray_jobs.audit import audit
from serve.audit.launch import describe


@pytest.fixture(scope="module")
def audited(finished_run: Config) -> Config:
    engine = finished_run.curation.critique.engine
    settings = finished_run.audit.model_copy(update={"rows": 8, "people": 4, "engine": engine})
    config = finished_run.model_copy(update={"audit": settings})
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
    assert len(describe(replace(audited.run), other)) == 2
