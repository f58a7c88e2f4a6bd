"""Which pairs the jobs after curation take: whole ones, and a user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Config
from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.training import train as training
from ray_jobs import data_map, recipes, sweep, train
from tests.training.tiny import pair_rows, write_pairs


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    raw = {"out_dir": tmp_path, "evaluation": {"benchmarks": []}, "train": {"holdout": 0.2}, "seed": 4}
    made = Config.model_validate(raw)
    write_pairs(made.run.pairs, pair_rows(3))
    for job in (train, sweep, recipes, data_map):
        monkeypatch.setattr(job, "connect", lambda *_: None)
    return made


@pytest.mark.parametrize("job", [train.train, sweep.sweep, recipes.recipes, data_map.data_map])
def test_a_curated_set_that_is_not_whole_is_refused(job: Callable[[Config], None], config: Config) -> None:
    storage.write_json(config.run.curated / step.CLAIM, {"fingerprint": "x", "depends": {}})
    with pytest.raises(UserError, match=r"curated: was not written to its end \(run ray_jobs/curate.py again"):
        job(config)


def test_a_users_own_pairs_are_trained_on(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(training, "train", lambda *given: told.append(given))
    train.train(config)
    assert told == [(config.train, config.run.pairs, config.run)] and config.run.seed == 4
