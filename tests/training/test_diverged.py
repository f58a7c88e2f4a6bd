"""A run that goes wrong stops, also where nothing is logged for long."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.training.diverged import Diverged
from tests.training.test_shared import Rows, config, encode, trainer_for


@pytest.fixture(scope="module")
def rows(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return encode(tiny_model, tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("logging_steps", [1, 100], ids=["logged", "found at the end"])
def test_a_loss_that_is_no_number_names_the_rows(
    logging_steps: int, tiny_model: Path, rows: Rows, tmp_path: Path
) -> None:
    wild = config(learning_rate=1e30, warmup_ratio=0, scheduler="constant", logging_steps=logging_steps)
    trainer = trainer_for(wild, tiny_model, tmp_path, rows)
    with pytest.raises(Diverged, match=r"became (nan|inf) at step [12](, row_ids row-000\d|$)"):
        trainer.train()
