"""From the config's values to those of the libraries: batch arithmetic, precision, strategy, threads."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.engines.arithmetic import fast_arithmetic
from pipelines.engines.packed.choice import choose
from pipelines.training import recipes
from pipelines.training.config import TrainConfig
from pipelines.training.kernels import Kernels

if TYPE_CHECKING:
    from transformers import TrainingArguments

# Keys of a DeepSpeed config that follow from ours. Sections that would store weights or their updates in
# 16 bits are refused: at lr 1e-7 a step is below half a bfloat16 ulp and would be lost.
SIXTEEN_BIT = ("bf16", "bfloat16", "fp16", "amp", "torch_autocast", "data_types")
OURS = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")

HELDOUT_ACCURACY = "heldout_accuracy"
SCORE = "score"  # by which Ray Train selects the best checkpoint
# engine -> the attention it supports. The default of `shared` is chosen by device, that of `trl` is the first.
ATTENTION = {"shared": ("split", "varlen", "flex", "mask"), "trl": ("sdpa", "eager", "flash_attention_2")}


def validate(config: TrainConfig) -> None:
    """Refuse settings that do not fit together, before any work.

    Raises:
        UserError: naming the keys.
    """
    attention(config)
    refuse_kernels(config)
    if config.float8:
        refuse_float8(config)
    recipes.validate(config)
    deepspeed = deepspeed_config(config)
    refuse_strategy(config)
    if config.checkpoint_staging is not None and not config.checkpoint_staging.is_absolute():
        raise UserError(
            f"'{config.checkpoint_staging}' is another folder on each worker",
            where="train.checkpoint_staging",
            fix="begin it with /",
        )
    if config.min_workers is not None:
        if config.min_workers > config.workers:
            raise UserError(
                f"min_workers {config.min_workers} is more than workers {config.workers}", where="train.min_workers"
            )
        if deepspeed or config.engine == "trl":
            raise UserError(
                "the number of workers is fixed in DeepSpeed's checkpoints and in TRL's batches",
                where="train.min_workers",
                fix="leave it out, or use engine shared without train.deepspeed",
            )
    if config.lora and deepspeed and deepspeed["zero_optimization"].get("stage") == 3:
        raise UserError(
            "adapters cannot be merged into weights that ZeRO-3 keeps in shards",
            where="train.lora",
            fix="use ZeRO-1 or 2: the optimizer of adapters is small",
        )
    for tracker in config.trackers:
        if importlib.util.find_spec(tracker) is None:
            raise UserError(f"'{tracker}' is not installed", where="train.trackers", fix=f"pip install {tracker}")
    if config.engine == "trl":
        if config.holdout:
            raise UserError("engine 'trl' holds no pairs out", where="train.holdout", fix="set it to 0, or use shared")
        if config.compile:
            raise UserError("engine 'trl' is not compiled", where="train.compile", fix="set it to false, or use shared")
        accumulation(config)
        if config.nll != "token":
            raise UserError(
                f"nll '{config.nll}' is not what TRL computes",
                where="train",
                fix="set train.nll: token, or use shared",
            )


def describe(config: TrainConfig, run: Run) -> list[str]:
    """The training line by line, for `--dry-run`.

    Raises:
        UserError: as `validate`.
    """
    validate(config)
    if config.engine == "trl":
        batches = f"{accumulation(config)} × {config.micro_batch_size} on each worker"
    else:
        batches = f"in bins of at most {config.bin_tokens} tokens on each worker"
    return [
        f"train {config.model} with {config.engine} on {config.workers} worker(s), {strategy(config)}",
        f"  lr {config.learning_rate}, {recipes.loss(config)}, {config.epochs} epoch(s), {precision(config)}",
        f"  batch {config.batch_size}: {batches}",
        *recipes.describe(config, run),
        f"  {run.pairs} -> {run.model}",
    ]


def refuse_kernels(config: TrainConfig) -> None:
    """Refuse kernels that the device or the engine would not use.

    Raises:
        UserError: naming the key.
    """
    gpu, shared = config.gpus_per_worker > 0, config.engine == "shared"
    if config.kernels == "liger" and not (gpu and shared):
        what = "Liger's kernels are for engine 'shared' on GPUs"
    elif config.kernels == "onednn" and (gpu or not shared or strategy(config) == "deepspeed"):
        what = "oneDNN's kernels are for engine 'shared' on CPUs, without DeepSpeed"
    else:
        return
    raise UserError(what, where="train.kernels", fix="set it to auto or none")


def kernels_for(config: TrainConfig) -> Kernels:
    """Which kernels a model is given: DeepSpeed's ZeRO-3 has linear layers of its own, so oneDNN's are left out."""
    return "none" if strategy(config) == "deepspeed" and not config.gpus_per_worker else config.kernels


def refuse_float8(config: TrainConfig) -> None:
    """Refuse products in 8 bits where nothing would compute them.

    Raises:
        UserError: naming the keys.
    """
    where, fix = "train.float8", "set it to false"
    if config.engine == "trl" or config.lora or config.deepspeed is not None:
        what = "products in 8 bits are for engine 'shared', without adapters and DeepSpeed"
        raise UserError(what, where=where, fix=fix)
    if importlib.util.find_spec("torchao") is None:
        raise UserError("torchao is not installed", where=where, fix="pip install 'openselene[float8]'")


def refuse_strategy(config: TrainConfig) -> None:
    """Refuse a strategy that the rest of the config does not fit.

    Raises:
        UserError: naming the keys.
    """
    where = "train.strategy"
    if config.strategy in ("ddp", "fsdp") and config.deepspeed is not None:
        raise UserError(f"'{config.strategy}' leaves train.deepspeed without use", where=where, fix="drop one of them")
    if config.strategy == "deepspeed" and config.deepspeed is None:
        fix = "set it, as in {zero_optimization: {stage: 2}}"
        raise UserError("'deepspeed' needs train.deepspeed", where=where, fix=fix)
    if config.strategy == "fsdp" and config.engine == "trl":
        fix = "use train.deepspeed, or train.engine: shared"
        raise UserError("engine 'trl' cannot shard its reference model with FSDP2", where=where, fix=fix)


def strategy(config: TrainConfig) -> Literal["ddp", "fsdp", "deepspeed"]:
    """How the workers share the training; the same for any number that an elastic run has at the moment."""
    if config.strategy != "auto":
        return config.strategy
    if config.deepspeed is not None:
        return "deepspeed"
    several = config.gpus_per_worker > 0 and config.workers > 1
    # Frozen weights and a few adapters fit on each GPU, and gathering them layer by layer would only take time.
    return "fsdp" if several and config.engine == "shared" and not config.lora else "ddp"


def precision(config: TrainConfig) -> Literal["float32", "bfloat16_autocast"]:
    """Of the forward passes on the config's workers; without GPUs, as on the CPU of this machine."""
    if config.precision == "auto":
        return "bfloat16_autocast" if fast_arithmetic(config.gpus_per_worker) == "bfloat16" else "float32"
    return config.precision


def attention(config: TrainConfig) -> str:
    """The attention of the engine.

    Raises:
        UserError: the config asks for one that the engine does not have.
    """
    known = ATTENTION[config.engine]
    if config.attention is not None and config.attention not in known:
        raise UserError(
            f"attention '{config.attention}' is not one of engine '{config.engine}'",
            where="train.attention",
            fix=f"choose {', '.join(known)}",
        )
    if config.attention is not None:
        return config.attention
    return (
        choose(config.gpus_per_worker > 0, precision(config) == "bfloat16_autocast")
        if config.engine == "shared"
        else known[0]
    )


def accumulation(config: TrainConfig) -> int:
    """Micro-batches of one worker in one optimizer step of TRL.

    Raises:
        UserError: `batch_size` is not a multiple of workers × micro_batch_size.
    """
    at_once = config.workers * config.micro_batch_size
    if config.batch_size % at_once:
        raise UserError(
            f"batch_size {config.batch_size} is not a multiple of workers × micro_batch_size = "
            f"{config.workers} × {config.micro_batch_size} = {at_once}",
            where="train",
            fix="choose a micro_batch_size for which it is",
        )
    return config.batch_size // at_once


def threads(config: TrainConfig) -> int:
    """Torch threads of a worker: its CPUs, or all cores of its node when it is the only one.

    Ray starts workers with OMP_NUM_THREADS=1 unless they reserve more CPUs.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if config.workers == 1 else max(1, min(int(config.cpus_per_worker), cores))


def deepspeed_config(config: TrainConfig) -> dict[str, Any] | None:
    """The user's DeepSpeed config with our batch sizes and precision in it; weights stay float32.

    Raises:
        UserError: it sets a key that follows from ours, or 16-bit weights.
    """
    if config.deepspeed is None:
        return None
    for key in (*SIXTEEN_BIT, *OURS):
        if key in config.deepspeed:
            ours = "precision" if key in SIXTEEN_BIT else "batch_size, micro_batch_size and max_grad_norm"
            raise UserError(
                f"'{key}' is ours to set", where="train.deepspeed", fix=f"remove it; it follows from train.{ours}"
            )
    filled: dict[str, Any] = {
        "zero_optimization": {"stage": 0},
        **config.deepspeed,
        **dict.fromkeys(OURS, "auto"),
    }
    if filled["zero_optimization"].get("stage") == 3:
        filled["zero_optimization"] = {
            **filled["zero_optimization"],
            "stage3_gather_16bit_weights_on_model_save": True,  # whatever the name says: of the weights' own type
        }
    if precision(config) == "bfloat16_autocast":
        # Not DeepSpeed's `bf16` section: that one casts the weights themselves.
        # The modules it lists would have their gradients averaged in bfloat16, so it gets none.
        filled["torch_autocast"] = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
    return filled


def fsdp_config(config: TrainConfig) -> dict[str, Any]:
    """FSDP2 as the library's arguments want it: one group of shards for each layer of the model."""
    return {
        "version": 2,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "reshard_after_forward": config.reshard_after_forward,
        "state_dict_type": "SHARDED_STATE_DICT",
    }


def stored(config: TrainConfig) -> Literal["float32", "bfloat16"]:
    """Type of the weights in memory: what is trained is float32, what is frozen has the type it is computed in."""
    return "bfloat16" if config.lora and precision(config) == "bfloat16_autocast" else "float32"


def reference_dtype(config: TrainConfig) -> Literal["float32", "bfloat16"]:
    """Type of the reference's weights, so that its arithmetic is that of training."""
    gathered = strategy(config) == "fsdp" and precision(config) == "bfloat16_autocast"
    return "bfloat16" if gathered else stored(config)


def autocast(config: TrainConfig) -> bool:
    """Whether a forward pass casts weights as it meets them: FSDP2 gathers them in bfloat16 already."""
    return precision(config) == "bfloat16_autocast" and strategy(config) != "fsdp"


def arguments(config: TrainConfig, folder: Path, seed: int) -> TrainingArguments:
    """The library's arguments of one run.

    Args:
        config: the training config.
        folder: where checkpoints go.
        seed: of the run.

    With DeepSpeed, `use_cpu` stays off on a CPU too: accelerate ignores DeepSpeed otherwise. The process group is then
    the one that `worker.join` has told accelerate of.
    """
    deepspeed, fsdp = deepspeed_config(config), strategy(config) == "fsdp"
    on_cpu = not config.gpus_per_worker
    values: dict[str, Any] = {
        "output_dir": str(folder),
        "learning_rate": config.learning_rate,
        "weight_decay": config.weight_decay,
        "num_train_epochs": config.epochs,
        "lr_scheduler_type": config.scheduler,
        "warmup_steps": config.warmup_ratio,  # below 1 it is a share of all steps
        "max_grad_norm": config.max_grad_norm,
        "bf16": precision(config) == "bfloat16_autocast" and deepspeed is None,
        "use_cpu": on_cpu and deepspeed is None,
        "deepspeed": deepspeed,
        "accelerator_config": {"use_configured_state": deepspeed is not None or (fsdp and on_cpu)},
        "gradient_checkpointing": config.gradient_checkpointing,
        "seed": seed,
        "logging_steps": config.logging_steps,
        "logging_nan_inf_filter": False,
        "save_strategy": "steps",
        "save_steps": config.checkpoint_steps,
        "report_to": config.trackers or "none",
        "disable_tqdm": True,
        "log_level": "error",
    }
    if config.holdout:
        values |= {
            "eval_strategy": "steps",
            "eval_steps": config.checkpoint_steps,
            "load_best_model_at_end": True,
            "metric_for_best_model": HELDOUT_ACCURACY,
            "greater_is_better": True,
        }
    if fsdp:
        values |= {"fsdp": True, "fsdp_config": fsdp_config(config)}
    if config.engine == "shared":
        from transformers import TrainingArguments

        # One item of the data is a whole optimizer step of a worker (shared.Steps).
        made = TrainingArguments(per_device_train_batch_size=1, remove_unused_columns=False, **values)
        if fsdp and precision(config) == "bfloat16_autocast":
            import torch
            from torch.distributed.fsdp import MixedPrecisionPolicy

            # By itself the library would also average gradients and round the scores in bfloat16.
            policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
            made.fsdp_plugin_args["mixed_precision_policy"] = policy
        return made
    from trl import DPOConfig

    return DPOConfig(
        per_device_train_batch_size=config.micro_batch_size,
        gradient_accumulation_steps=accumulation(config),
        loss_type=["sigmoid", "sft"],
        loss_weights=[1.0, config.alpha],
        beta=config.beta,
        label_smoothing=config.label_smoothing,
        max_length=config.max_length,
        precompute_ref_log_probs=config.precompute_reference,
        **values,
    )
