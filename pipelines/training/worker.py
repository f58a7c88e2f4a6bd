"""What one Ray Train worker does: load, train from the last checkpoint, write the model."""

from __future__ import annotations

import logging
import os
import shutil
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.training import settings
from pipelines.training.config import TrainConfig
from pipelines.training.pairs import load_tokenizer

if TYPE_CHECKING:
    import torch

    from pipelines.engines.packed.choice import Backend

CACHE = "cache"  # of the library `datasets`: the rows as it maps them into memory, shared by all workers
PROBED = 8  # pairs whose scores tell what products in 8 bits change
QUIET = {
    "TQDM_DISABLE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DS_SKIP_CUDA_CHECK": "1",
}


@dataclass(frozen=True)
class Job:
    """One training, as each worker receives it.

    Attributes:
        config: the training config.
        model: the model to start from, by a name that every node knows.
        rows: folder of the encoded pairs.
        run: gets the logs and the model; its seed decides the order of the pairs.
    """

    config: TrainConfig
    model: str
    rows: Place
    run: Run


def train_worker(given: dict[str, Job]) -> dict[str, Any]:
    """Train on this rank. The same for one worker, several, CPUs and GPUs.

    Args:
        given: the `job`, as Ray Train hands it over.

    Returns:
        Of rank 0: steps, seconds, pairs, tokens, `resumed_from`, `best`; or `diverged` with what was seen.
    """
    quiet()
    job = given["job"]
    import torch

    torch.set_num_threads(settings.threads(job.config))
    import ray.train

    from pipelines.training import checkpoints
    from pipelines.training.diverged import Diverged

    join(job.config)
    rank = ray.train.get_context().get_world_rank()
    local = checkpoints.staging(job.run.training, rank, job.config.checkpoint_staging)
    trainer = build(job, local)
    check_ranks(trainer)
    trainer.stored = partial(checkpoints.stored, local)
    trainer.add_callback(checkpoints.BeforeANodeGoes())
    trainer.add_callback(checkpoints.HandOver(trainer))
    checkpoint = ray.train.get_checkpoint()
    start = time.monotonic()
    try:
        with checkpoint.as_directory() if checkpoint else nullcontext() as folder:
            trainer.train(resume_from_checkpoint=folder)
    except Diverged as exc:
        # The logs are written and closed there.
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
        return {"diverged": str(exc)}
    seconds = time.monotonic() - start
    save(trainer, job)
    for own in (local, checkpoints.node_folder(job.run.training)):
        shutil.rmtree(own, ignore_errors=True)
    return {
        "steps": trainer.state.global_step,
        "resumed_from": checkpoints.step_of(checkpoint),
        "seconds": round(seconds, 2),
        "pairs": trainer.pairs_seen,
        "tokens": trainer.tokens_seen,
        "best": best(trainer.state),
        "float8_error": trainer.float8_error,
    }


def best(state: Any) -> dict[str, float] | None:
    """The checkpoint with the highest held-out accuracy, which is now the model; None if no pairs were held out."""
    if state.best_metric is None:
        return None
    return {"step": state.best_global_step, settings.HELDOUT_ACCURACY: state.best_metric}


def build(job: Job, local: Path) -> Any:
    """Trainer of the config's engine with a float32 model, data in hash order, and our callbacks.

    Args:
        job: what to train.
        local: folder for this worker's part of each checkpoint.

    Raises:
        UserError: the model cannot be loaded.
    """
    import datasets
    from transformers import PrinterCallback, set_seed

    from pipelines.engines.packed.work import Shape
    from pipelines.training import checkpoints, heldout
    from pipelines.training.callbacks import EventFiles, MetricsLog, NextOrder, NoLastCheckpoint
    from pipelines.training.order import HashOrder

    config, seed, work = job.config, job.run.seed, job.run.training
    # Before the model: DeepSpeed's ZeRO-3 shards weights while they load, if it knows of them by then.
    arguments = settings.arguments(config, local, seed)
    shared = storage.is_local(work)  # else each machine has rows and cache of its own
    cache = Path(str(work / CACHE)) if shared else checkpoints.node_folder(work)
    with arguments.main_process_first(local=not shared):
        data = datasets.Dataset.from_parquet(
            storage.local_copy(job.rows, cache / "rows"), cache_dir=str(cache), keep_in_memory=False
        )
        held = None
        if config.holdout:
            kept, rest = heldout.split(data["group"], config.holdout, seed)
            data, held = data.select(kept).flatten_indices(), data.select(rest)
    model, order = load_model(job.model, config), HashOrder(data["row_id"], seed)
    shape = Shape.of(model.config)
    if config.lora:
        set_seed(seed)  # by which adapters begin alike on every rank
        model = with_adapters(model, config)
    error = in_8_bits(model, data, config, arguments.device) if config.float8 else None
    events = EventFiles(work / "tensorboard", local / "events")
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(events.folder)
    log = MetricsLog(job.run.training_log, shape)
    common: dict[str, Any] = {
        "model": model,
        "args": arguments,
        "processing_class": load_tokenizer(job.model),
        "order": order,
        "callbacks": [log, NextOrder(order), NoLastCheckpoint(), events],
    }
    trainer: Any
    if config.engine == "shared":
        from pipelines.training.shared import SharedTrainer

        trainer = SharedTrainer(rows=data, held=held, config=config, **common)
    else:
        from pipelines.training.dpo import PairTrainer, score_completions_only

        score_completions_only()
        trainer = PairTrainer(train_dataset=data, alpha=config.alpha, **common)
    trainer.float8_error = error
    log.trainer = trainer
    log.peak_tflops = config.peak_tflops and config.peak_tflops * trainer.accelerator.num_processes
    trainer.remove_callback(PrinterCallback)
    return trainer


def load_model(name: str, config: TrainConfig, dtype: torch.dtype | None = None) -> Any:
    """The causal language model with the attention of the engine.

    Args:
        name: of the model.
        config: the training config.
        dtype: of its weights; None is what training keeps them in: float32, or bfloat16 where they are frozen and
            computed in it.

    Raises:
        UserError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from pipelines.engines.models import here

    attention = settings.attention(config)
    shared = config.engine == "shared"
    if shared:
        from pipelines.engines.packed import backends
        from pipelines.training import kernels, scoring

    try:
        model = AutoModelForCausalLM.from_pretrained(
            here(name),
            dtype=dtype or getattr(torch, settings.stored(config)),
            attn_implementation=backends.implementation(cast("Backend", attention)) if shared else attention,
        )
    except (OSError, ValueError, ImportError) as exc:  # ImportError: attention kernels that are not installed
        raise UserError(f"cannot load the model: {str(exc).strip().splitlines()[0]}", where=name) from None
    if not shared:
        return model
    kernels.fuse(model, settings.kernels_for(config), config.gpus_per_worker > 0)
    if config.compile:
        scoring.compile_layers(model)
    return scoring.prepare(model, cast("Backend", attention), config.max_length)


def in_8_bits(model: Any, data: Any, config: TrainConfig, device: torch.device) -> dict[str, float]:
    """Have the model compute in 8 bits from now on.

    Returns:
        How far this moves its scores of the first pairs, as `kernels.float8_error` tells.
    """
    import torch

    from pipelines.engines.packed.packing import on_device, pack
    from pipelines.training import kernels

    packed = on_device(pack([data[i] for i in range(min(len(data), PROBED))]), device)
    model.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.autocast(config)):
        error = kernels.float8_error(model, packed, emulate=device.type == "cpu")
    model.cpu()  # whence the strategy takes it
    return error


def with_adapters(model: Any, config: TrainConfig) -> Any:
    """The model with its weights frozen and adapters, in float32, added.

    Raises:
        UserError: it has no layers of the configured names, or the engine needs one of them as it is.
    """
    import peft

    lora = config.lora
    assert lora
    made = peft.LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets)
    where = "train.lora.targets"
    try:
        # No task type: peft would then take the forward pass for that of an ordinary language model.
        adapted = peft.get_peft_model(model, made)
    except ValueError as exc:
        raise UserError(str(exc).strip().splitlines()[0], where=where) from None
    if config.engine == "shared" and isinstance(model.get_output_embeddings(), peft.tuners.lora.LoraLayer):
        raise UserError("engine 'shared' needs the head without an adapter", where=where, fix="leave it out")
    return adapted


def join(config: TrainConfig) -> None:
    """Tell accelerate of the process group that Ray has set up, where it would not find it by itself."""
    strategy = settings.strategy(config)
    if strategy == "deepspeed":
        join_deepspeed()
    elif strategy == "fsdp" and not config.gpus_per_worker:
        join_fsdp()


def join_deepspeed() -> None:
    """Without this accelerate finds no device backend on a CPU, and every rank believes to be the only one."""
    import torch.distributed as dist
    from accelerate import PartialState

    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    import deepspeed  # noqa: F401  (only here: at module level it would reach into other engines)

    PartialState(backend=dist.get_backend())
    del os.environ["ACCELERATE_USE_DEEPSPEED"]


def join_fsdp() -> None:
    """On CPUs accelerate takes no notice of FSDP, which works there as it does on GPUs."""
    from accelerate import DistributedType, PartialState

    PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU


def check_ranks(trainer: Any) -> None:
    """The trainer must see all of Ray's workers, or every rank would train on everything.

    Raises:
        RuntimeError: it does not.
    """
    import ray.train

    expected, seen = ray.train.get_context().get_world_size(), trainer.accelerator.num_processes
    if expected != seen:
        raise RuntimeError(f"Ray has {expected} workers, the trainer sees {seen}")


def save(trainer: Any, job: Job) -> None:
    """Write the whole model in Hugging Face layout (rank 0; all ranks take part).

    A kill may leave a part of it: the model counts once the marker of the training step is written.
    """
    target, first = job.run.model, trainer.is_world_process_zero()
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    others = nullcontext(target) if isinstance(target, Path) else storage.scratch()
    with storage.local_folder(target, last="config.json") if first else others as folder:
        trainer.accelerator.wait_for_everyone()
        if first:
            write(trainer, job, state, folder)
        trainer.accelerator.wait_for_everyone()


def write(trainer: Any, job: Job, state: dict[str, Any], folder: Path) -> None:
    """The model, its tokenizer and how it generates.

    Args:
        trainer: has the model.
        job: says which model training started from, and the type of the weights.
        state: all weights of the trainer's model.
        folder: where they go.
    """
    import json

    import torch
    from transformers import GenerationConfig

    from pipelines.judging.chat import end_of_turn
    from pipelines.training.sharded import once

    tokenizer, model = trainer.processing_class, trainer.accelerator.unwrap_model(trainer.model)
    dtype = getattr(torch, job.config.save_dtype)
    if job.config.lora:
        model, state = merged(job, state)
    stops = dict.fromkeys([end_of_turn(tokenizer), tokenizer.eos_token_id])
    # Greedy, whatever the base model's own sampling defaults: a judge that is asked twice answers the same.
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=[token for token in stops if token is not None],
        pad_token_id=tokenizer.pad_token_id,
    )
    model.config.use_cache = True
    # Of another type, two names of one weight would be two weights.
    state = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in once(model, state).items()
    }
    model.save_pretrained(folder, state_dict=state)
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config["dtype"] = job.config.save_dtype  # the library writes that of the model in memory
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def merged(job: Job, state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model that training started from and its weights, with the adapters of `state` merged in float32.

    The base in memory may be in bfloat16 or in shards, so it is read again.
    """
    import torch

    assert job.config.lora
    model = with_adapters(load_model(job.model, job.config, torch.float32), job.config)
    adapters = {name: value for name, value in state.items() if "lora_" in name}
    left = model.load_state_dict(adapters, strict=False)
    assert adapters and not left.unexpected_keys
    model = model.merge_and_unload()
    return model, model.state_dict()


def quiet() -> None:
    """Silence what libraries print on import and at every step; metrics.jsonl has it all."""
    os.environ.update(QUIET)
    warnings.simplefilter("ignore")
    for name in ("DeepSpeed", "deepspeed", "torch._dynamo", "torch._inductor", "trl", "accelerate", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
