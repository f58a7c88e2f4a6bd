"""Adapters: only they are trained, and what is written is an ordinary model that gives the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.engines.packed.packing import pack
from pipelines.training import scoring, settings
from pipelines.training.callbacks import NoLastCheckpoint
from pipelines.training.worker import Job, load_model, save
from tests.training.test_shared import Rows, config, rows, trainer_for

__all__ = ["rows"]  # the fixture

ADAPTED = {"lora": {"rank": 4, "alpha": 8}, "learning_rate": 1e-2, "epochs": 2, "checkpoint_steps": 2}


def log_probs(model: Any, rows: Rows) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(pack(rows)).log_probs


def test_only_adapters_are_trained_and_the_merged_model_scores_the_same(
    tiny_model: Path, rows: Rows, tmp_path: Path
) -> None:
    before = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).state_dict()
    trainer = trainer_for(config(**ADAPTED), tiny_model, tmp_path, rows)
    trainable = {name for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert trainable and all("lora_" in name for name in trainable)
    trainer.train()
    frozen = trainer.model.get_base_model().state_dict()
    for name, weight in before.items():
        layer = name.replace(".weight", ".base_layer.weight")
        torch.testing.assert_close(frozen[layer if layer in frozen else name], weight, rtol=0, atol=0)
    trained = log_probs(trainer.model, rows)
    save(trainer, Job(config(**ADAPTED), str(tiny_model), tmp_path / "rows", Run(tmp_path)))
    written = scoring.prepare(
        AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32), "mask", 256
    )
    torch.testing.assert_close(log_probs(written, rows), trained, rtol=1e-5, atol=1e-4)
    assert (trained - log_probs(load_model(str(tiny_model), config()), rows)).abs().max() > 0.1
    assert not list((tmp_path / "model").glob("adapter*"))


def test_a_run_with_adapters_goes_on_from_its_checkpoint(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    whole = trainer_for(config(**ADAPTED), tiny_model, tmp_path / "whole", rows)
    whole.train()
    assert any(isinstance(callback, NoLastCheckpoint) for callback in whole.callback_handler.callbacks)
    again = trainer_for(config(**ADAPTED), tiny_model, tmp_path / "again", rows)
    again.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoints" / "checkpoint-2"))
    torch.testing.assert_close(log_probs(again.model, rows), log_probs(whole.model, rows), rtol=1e-6, atol=1e-6)


def test_layers_that_are_not_there_are_one_clear_line(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.lora\.targets"):
        trainer_for(config(lora={"targets": ["no_such"]}), tiny_model, tmp_path, rows)


def test_a_head_with_an_adapter_is_one_clear_line(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.lora\.targets: engine 'shared' needs the head without an adapter"):
        trainer_for(config(lora={"targets": ["lm_head"]}), tiny_model, tmp_path, rows)


def test_the_frozen_base_has_the_type_it_is_computed_in_and_merges_in_float32(
    tiny_model: Path, rows: Rows, tmp_path: Path
) -> None:
    half = config(**ADAPTED, precision="bfloat16_autocast")
    trainer = trainer_for(half, tiny_model, tmp_path, rows)
    kept = {(weight.requires_grad, weight.dtype) for weight in trainer.model.parameters()}
    assert kept == {(True, torch.float32), (False, torch.bfloat16)}
    trainer.train()
    save(trainer, Job(half, str(tiny_model), tmp_path / "rows", Run(tmp_path)))
    base, written = (
        AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (tiny_model, tmp_path / "model")
    )
    layer = trainer.model.get_base_model().model.layers[0].self_attn.q_proj
    name = "model.layers.0.self_attn.q_proj.weight"
    change = 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight  # alpha / rank
    assert change.abs().max() > 0
    torch.testing.assert_close(written[name], base[name] + change.detach())
    torch.testing.assert_close(written["model.norm.weight"], base["model.norm.weight"], rtol=0, atol=0)


def test_sharded_weights_cannot_take_adapters() -> None:
    with pytest.raises(UserError, match="ZeRO-3"):
        settings.validate(config(lora={}, deepspeed={"zero_optimization": {"stage": 3}}))


def test_a_tracker_that_is_not_installed_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"'mlflow' is not installed.*pip install mlflow"):
        settings.validate(config(trackers=["mlflow"]))


def test_the_tracker_gets_both_losses(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer_for(config(), tiny_model, tmp_path, rows).train()
    events = EventAccumulator(str(tmp_path / "train" / "tensorboard"))
    events.Reload()
    assert {"train/loss_dpo", "train/loss_nll", "train/rewards/margins"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("train/loss_dpo")) == 2
