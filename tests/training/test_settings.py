"""Batch arithmetic, DeepSpeed config and what a run depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.training import settings
from pipelines.training.config import TrainConfig


@pytest.mark.parametrize(
    ("batch", "workers", "micro", "steps"), [(32, 8, 4, 1), (32, 1, 4, 8), (8, 2, 1, 4), (6, 3, 2, 1), (1, 1, 1, 1)]
)
def test_workers_times_micro_times_accumulation_is_the_batch(batch: int, workers: int, micro: int, steps: int) -> None:
    config = TrainConfig(batch_size=batch, workers=workers, micro_batch_size=micro)
    assert settings.accumulation(config) == steps


@pytest.mark.parametrize(("batch", "workers", "micro"), [(8, 3, 1), (8, 1, 3), (4, 2, 4)])
def test_a_batch_that_does_not_divide_is_refused(batch: int, workers: int, micro: int) -> None:
    config = TrainConfig(batch_size=batch, workers=workers, micro_batch_size=micro)
    with pytest.raises(UserError, match=f"batch_size {batch} is not a multiple of .* {workers} × {micro}"):
        settings.accumulation(config)


def test_an_elastic_range_that_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="min_workers 3 is more than workers 2"):
        settings.validate(TrainConfig(workers=2, min_workers=3))
    for fixed in ({"deepspeed": {}}, {"engine": "trl", "nll": "token"}):
        with pytest.raises(UserError, match=r"train\.min_workers"):
            settings.validate(TrainConfig.model_validate({"workers": 4, "min_workers": 2, **fixed}))
    settings.validate(TrainConfig(workers=4, min_workers=2))


def test_autocast_keeps_weights_out_of_deepspeeds_bf16() -> None:
    config = TrainConfig(deepspeed={"zero_optimization": {"stage": 2}}, precision="bfloat16_autocast")
    filled = settings.deepspeed_config(config)
    assert filled is not None
    # No module whose gradients would be averaged in bfloat16.
    autocast = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
    assert "bf16" not in filled and filled["torch_autocast"] == autocast
    assert filled["zero_optimization"] == {"stage": 2}
    assert filled["train_micro_batch_size_per_gpu"] == "auto"


def test_float32_has_no_autocast_in_deepspeed_and_no_deepspeed_stays_none() -> None:
    filled = settings.deepspeed_config(TrainConfig(deepspeed={}, precision="float32"))
    assert filled is not None and "torch_autocast" not in filled
    assert settings.deepspeed_config(TrainConfig()) is None


def test_zero_3_gathers_the_weights_when_the_model_is_saved() -> None:
    wanted = {"zero_optimization": {"stage": 3, "overlap_comm": False}}
    filled = settings.deepspeed_config(TrainConfig(deepspeed=wanted))
    assert filled is not None
    assert filled["zero_optimization"] == {
        "stage": 3,
        "overlap_comm": False,
        "stage3_gather_16bit_weights_on_model_save": True,
    }


@pytest.mark.parametrize("key", ["bf16", "fp16", "train_batch_size", "gradient_clipping"])
def test_deepspeed_keys_that_follow_from_ours_are_refused(key: str) -> None:
    with pytest.raises(UserError, match=f"'{key}' is ours to set"):
        settings.deepspeed_config(TrainConfig(deepspeed={key: {"enabled": True}}))


def test_the_only_worker_takes_all_cores_and_others_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert settings.threads(TrainConfig(workers=1, cpus_per_worker=1)) == 6
    assert settings.threads(TrainConfig(workers=2, cpus_per_worker=3)) == 3
    assert settings.threads(TrainConfig(workers=2, cpus_per_worker=0.5)) == 1
    assert settings.threads(TrainConfig(workers=2, cpus_per_worker=64)) == 6


def test_arguments_carry_the_config(tmp_path: Path) -> None:
    config = TrainConfig(warmup_ratio=0.25, precision="float32", weight_decay=0.3)
    arguments = settings.arguments(config, tmp_path, seed=3)
    assert (arguments.weight_decay, arguments.gradient_accumulation_steps, arguments.seed) == (0.3, 1, 3)
    assert arguments.get_warmup_steps(100) == 25
    assert not arguments.bf16 and not arguments.fp16 and arguments.use_cpu


def test_arguments_of_trl_carry_the_config_too(tmp_path: Path) -> None:
    config = TrainConfig(
        engine="trl", nll="token", alpha=0.5, beta=0.2, batch_size=8, micro_batch_size=2, precision="float32"
    )
    arguments = settings.arguments(config, tmp_path, seed=3)
    assert arguments.loss_type == ["sigmoid", "sft"] and arguments.loss_weights == [1.0, 0.5]
    assert (arguments.beta, arguments.gradient_accumulation_steps, arguments.bf16) == (0.2, 4, False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"attention": "eager"},
            r"train.attention: attention 'eager' is not one of engine 'shared'.*split, varlen, flex, mask",
        ),
        ({"engine": "trl", "nll": "token", "attention": "split"}, "'split' is not one of engine 'trl'"),
        ({"engine": "trl"}, "nll 'sequence' is not what TRL computes"),
        ({"engine": "trl", "nll": "token", "batch_size": 8, "micro_batch_size": 3}, "not a multiple"),
        ({"deepspeed": {"bf16": {"enabled": True}}}, "'bf16' is ours to set"),
        ({"deepspeed": {}, "strategy": "fsdp"}, r"train\.strategy: 'fsdp' leaves train\.deepspeed without use"),
        ({"deepspeed": {}, "strategy": "ddp"}, "'ddp' leaves"),
        ({"strategy": "deepspeed"}, r"'deepspeed' needs train\.deepspeed.*stage: 2"),
        ({"engine": "trl", "nll": "token", "strategy": "fsdp"}, "engine 'trl' cannot shard its reference"),
        ({"checkpoint_staging": "parts"}, r"train\.checkpoint_staging: 'parts' is another folder on each worker"),
    ],
)
def test_what_does_not_add_up_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        settings.validate(TrainConfig.model_validate(values))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "ddp"),
        ({"workers": 8}, "ddp"),
        ({"workers": 8, "gpus_per_worker": 1}, "fsdp"),
        ({"workers": 8, "gpus_per_worker": 1, "min_workers": 1}, "fsdp"),
        ({"workers": 1, "gpus_per_worker": 1}, "ddp"),
        ({"workers": 8, "gpus_per_worker": 1, "lora": {}}, "ddp"),
        ({"workers": 8, "gpus_per_worker": 1, "engine": "trl"}, "ddp"),
        ({"workers": 8, "gpus_per_worker": 1, "deepspeed": {}}, "deepspeed"),
        ({"workers": 8, "gpus_per_worker": 1, "strategy": "ddp"}, "ddp"),
        ({"strategy": "fsdp"}, "fsdp"),
    ],
)
def test_several_gpus_share_the_weights_unless_told_otherwise(changes: dict[str, Any], expected: str) -> None:
    assert settings.strategy(TrainConfig.model_validate(changes)) == expected


@pytest.mark.parametrize(
    ("changes", "stored", "reference", "autocast"),
    [
        ({"precision": "float32", "strategy": "fsdp"}, "float32", "float32", False),
        ({"precision": "float32", "lora": {}}, "float32", "float32", False),
        ({"precision": "bfloat16_autocast"}, "float32", "float32", True),
        ({"precision": "bfloat16_autocast", "strategy": "fsdp"}, "float32", "bfloat16", False),
        ({"precision": "bfloat16_autocast", "lora": {}}, "bfloat16", "bfloat16", True),
        ({"precision": "bfloat16_autocast", "lora": {}, "strategy": "fsdp"}, "bfloat16", "bfloat16", False),
        ({"precision": "bfloat16_autocast", "deepspeed": {}}, "float32", "float32", True),
    ],
)
def test_what_is_trained_is_float32_and_the_reference_computes_as_training_does(
    changes: dict[str, Any], stored: str, reference: str, autocast: bool
) -> None:
    config = TrainConfig.model_validate(changes)
    assert (settings.stored(config), settings.reference_dtype(config)) == (stored, reference)
    assert settings.autocast(config) == autocast


def test_each_engine_has_a_default_attention() -> None:
    assert settings.attention(TrainConfig()) == "split"
    assert settings.attention(TrainConfig(engine="trl")) == "sdpa"


def test_settings_that_fit_together_are_accepted() -> None:
    for values in (
        {},
        {"attention": "mask", "compile": True, "holdout": 0.1},
        {"lora": {}},
        {"lora": {}, "deepspeed": {"zero_optimization": {"stage": 2}}},
        {"deepspeed": {"zero_optimization": {"stage": 3}}},
        {"workers": 2, "min_workers": 2},
        {"workers": 2, "min_workers": 1, "strategy": "fsdp", "lora": {}, "checkpoint_staging": "/nvme"},
        {"engine": "trl", "nll": "token", "attention": "eager", "deepspeed": {}},
    ):
        settings.validate(TrainConfig.model_validate(values))


def test_trls_engine_is_not_compiled() -> None:
    with pytest.raises(UserError, match=r"train\.compile: engine 'trl' is not compiled"):
        settings.validate(TrainConfig(engine="trl", nll="token", compile=True))


@pytest.mark.parametrize(
    ("key", "ours"), [("fp16", "precision"), ("train_batch_size", "batch_size, micro_batch_size and max_grad_norm")]
)
def test_a_refused_deepspeed_key_names_what_it_follows_from(key: str, ours: str) -> None:
    with pytest.raises(UserError, match=rf"train\.{ours}\)"):
        settings.deepspeed_config(TrainConfig(deepspeed={key: 1}))


class Told(dict[str, Any]):
    """What the library was told."""

    def __init__(self, **values: Any) -> None:
        super().__init__(values)
        self.fsdp_plugin_args = dict[str, Any]()


def told_of(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> Told:
    """What the library is told, without the library, which would look for devices."""
    from transformers import TrainingArguments  # at the first import of a name the module puts another in its place

    assert TrainingArguments
    monkeypatch.setattr("transformers.TrainingArguments", Told)
    told: Any = settings.arguments(config, Path("checkpoints"), 0)
    assert isinstance(told, Told)
    return told


def values_of(config: TrainConfig, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return dict(told_of(config, monkeypatch))


def test_precision_and_device_are_deepspeeds_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(**changes: Any) -> tuple[bool, bool, bool, bool]:
        values = values_of(TrainConfig.model_validate(changes), monkeypatch)
        state = values["accelerator_config"]["use_configured_state"]
        return values["bf16"], values["use_cpu"], values["deepspeed"] is not None, state

    assert told(precision="bfloat16_autocast") == (True, True, False, False)
    assert told(precision="float32") == (False, True, False, False)
    assert told(gpus_per_worker=1) == (True, False, False, False)
    assert told(deepspeed={}) == (False, False, True, True)
    # On a CPU accelerate is told of FSDP beforehand.
    assert told(precision="bfloat16_autocast", strategy="fsdp") == (True, True, False, True)
    assert told(gpus_per_worker=1, workers=2) == (True, False, False, False)
    assert told(deepspeed={}, gpus_per_worker=1) == (False, False, True, True)


def test_fsdp_averages_gradients_in_float32_and_leaves_the_scores_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"workers": 2, "gpus_per_worker": 1, "reshard_after_forward": False}
    half, whole = (
        told_of(TrainConfig.model_validate({**values, "precision": name}), monkeypatch)
        for name in ("bfloat16_autocast", "float32")
    )
    assert half["fsdp"] and half["fsdp_config"]["version"] == 2
    assert half["fsdp_config"]["reshard_after_forward"] is False
    policy = half.fsdp_plugin_args["mixed_precision_policy"]
    assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32) and policy.output_dtype is None
    assert whole.fsdp_plugin_args == {}


def test_held_out_pairs_are_judged_at_every_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    without = values_of(TrainConfig(checkpoint_steps=7), monkeypatch)
    assert without["save_steps"] == 7 and not any(name.startswith("eval") for name in without)
    held = values_of(TrainConfig(checkpoint_steps=7, holdout=0.1), monkeypatch)
    assert (held["eval_steps"], held["metric_for_best_model"]) == (7, "heldout_accuracy")
    assert held["load_best_model_at_end"] and held["greater_is_better"]


def test_trackers_are_passed_on_and_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert values_of(TrainConfig(trackers=["tensorboard"]), monkeypatch)["report_to"] == ["tensorboard"]
    assert values_of(TrainConfig(trackers=[]), monkeypatch)["report_to"] == "none"


def test_the_description_says_engine_batch_and_folders(tmp_path: Path) -> None:
    run = Run(tmp_path)
    shared = settings.describe(TrainConfig(bin_tokens=512), run)
    assert "with shared on 1 worker(s), ddp" in shared[0] and "bins of at most 512 tokens" in shared[2]
    assert shared[3] == f"  {tmp_path}/curated/data -> {tmp_path}/model"
    values = {"engine": "trl", "nll": "token", "batch_size": 8, "micro_batch_size": 2}
    trl = settings.describe(TrainConfig.model_validate({**values, "deepspeed": {"zero_optimization": {}}}), run)
    assert "deepspeed" in trl[0] and "batch 8: 4 × 2 on each worker" in trl[2]
    with pytest.raises(UserError, match="not a multiple"):
        settings.describe(TrainConfig.model_validate({**values, "batch_size": 9}), run)


def test_the_folder_of_the_reference_is_absolute_for_the_workers() -> None:
    assert TrainConfig.model_validate({"reference": "kept"}).reference == Path.cwd() / "kept"
    assert TrainConfig().reference is None


@pytest.mark.parametrize("given", [{}, {"engine": "trl", "gpus_per_worker": 1}], ids=["on CPUs", "TRL"])
def test_ligers_kernels_are_refused_where_they_do_nothing(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="Liger") as refused:
        settings.validate(TrainConfig(kernels="liger", **given))
    assert refused.value.where == "train.kernels"


@pytest.mark.parametrize(
    "given", [{"gpus_per_worker": 1}, {"engine": "trl"}, {"strategy": "deepspeed", "deepspeed": {}}]
)
def test_onednns_kernels_are_refused_where_they_do_nothing(given: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="oneDNN") as refused:
        settings.validate(TrainConfig(kernels="onednn", **given))
    assert refused.value.where == "train.kernels"
    assert settings.kernels_for(TrainConfig(kernels="onednn")) == "onednn"


def test_deepspeed_on_cpus_keeps_its_own_layers() -> None:
    assert settings.kernels_for(TrainConfig(deepspeed={})) == "none"
    assert settings.kernels_for(TrainConfig(deepspeed={}, gpus_per_worker=1)) == "auto"


@pytest.mark.parametrize(
    ("gpus", "precision", "given", "found"),
    [
        (0, "bfloat16_autocast", None, "split"),
        (1, "bfloat16_autocast", None, "varlen"),
        (1, "float32", None, "flex"),
        (1, "bfloat16_autocast", "mask", "mask"),
    ],
)
def test_attention_follows_the_device(gpus: int, precision: str, given: str | None, found: str) -> None:
    config = TrainConfig.model_validate({"gpus_per_worker": gpus, "precision": precision, "attention": given})
    assert settings.attention(config) == found
