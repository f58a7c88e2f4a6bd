"""Products in 8 bits, emulated: what they change is measured, and a run says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.core.errors import UserError
from pipelines.training import settings
from pipelines.training.config import TrainConfig
from pipelines.training.worker import in_8_bits, load_model
from tests.training.test_shared import Rows, encode, trainer_for


def config(**values: Any) -> TrainConfig:
    given = {"precision": "float32", "float8": True, "batch_size": 4, "bin_tokens": 200, "learning_rate": 1e-3}
    return TrainConfig.model_validate(given | values)


@pytest.fixture(scope="module")
def rows(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    return encode(tiny_model, tmp_path_factory.mktemp("rows"))


def test_what_8_bits_change_is_measured_and_small(tiny_model: Path, rows: Rows) -> None:
    pytest.importorskip("torchao", reason="pip install torchao (extra float8)")
    made = config()
    model = load_model(str(tiny_model), made)
    head = model.get_output_embeddings()
    error = in_8_bits(model, rows, made, torch.device("cpu"))
    layers = sum(isinstance(each, torch.nn.Linear) for each in model.modules()) - 1
    assert error["layers"] == layers > 0 and type(head) is torch.nn.Linear is type(model.get_output_embeddings())
    assert 0 < error["log_prob"] < 0.5 and 0 < error["margin"] < 0.5
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_a_run_in_8_bits_learns_and_says_how_far_off_it_began(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    pytest.importorskip("torchao", reason="pip install torchao (extra float8)")
    many = config(epochs=12, batch_size=8, learning_rate=3e-3)
    trainer = trainer_for(many, tiny_model, tmp_path, rows)
    assert trainer.float8_error["layers"] and trainer.float8_error["margin"] > 0
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize(
    "values",
    [{"engine": "trl", "nll": "token"}, {"lora": {"rank": 2}}, {"deepspeed": {"zero_optimization": {"stage": 2}}}],
    ids=["trl", "adapters", "DeepSpeed"],
)
def test_where_nothing_would_compute_them_they_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"train\.float8: products in 8 bits are for engine 'shared'"):
        settings.validate(config(**values))


def test_without_torchao_they_are_refused_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings.importlib.util.find_spec
    monkeypatch.setattr(settings.importlib.util, "find_spec", lambda name: None if name == "torchao" else found(name))
    with pytest.raises(UserError, match=r"train\.float8: torchao is not installed"):
        settings.validate(config())
