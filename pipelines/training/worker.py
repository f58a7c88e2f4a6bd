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
from typing import Any

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.training import settings
from pipelines.training.config import LoraConfig, TrainConfig
from pipelines.training.pairs import load_tokenizer

CACHE = "cache"  # of the library `datasets`: the rows as it maps them into memory, shared by all workers
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

    if job.config.deepspeed is not None:
        join_deepspeed()
    local = checkpoints.staging(job.run.training, ray.train.get_context().get_world_rank())
    trainer = build(job, local)
    check_ranks(trainer)
    trainer.stored = partial(checkpoints.stored, local)
    trainer.add_callback(checkpoints.BeforeANodeGoes())
    trainer.add_callback(checkpoints.HandOver())
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
    save(trainer, job.run.model)
    for own in (local, checkpoints.node_folder(job.run.training)):
        shutil.rmtree(own, ignore_errors=True)
    return {
        "steps": trainer.state.global_step,
        "resumed_from": checkpoints.step_of(checkpoint),
        "seconds": round(seconds, 2),
        "pairs": trainer.pairs_seen,
        "tokens": trainer.tokens_seen,
        "best": best(trainer.state),
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
    from transformers import PrinterCallback

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
        model = with_adapters(model, config.lora)
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
    log.trainer = trainer
    log.peak_tflops = config.peak_tflops and config.peak_tflops * trainer.accelerator.num_processes
    trainer.remove_callback(PrinterCallback)
    return trainer


def load_model(name: str, config: TrainConfig) -> Any:
    """The causal language model in float32, with the attention of the engine.

    Raises:
        UserError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from pipelines.engines.models import here

    attention = settings.attention(config)
    shared = config.engine == "shared"
    if shared:
        from pipelines.training import scoring

    try:
        model = AutoModelForCausalLM.from_pretrained(
            here(name),
            dtype=torch.float32,
            attn_implementation=scoring.attention_name(attention) if shared else attention,
        )
    except (OSError, ValueError, ImportError) as exc:  # ImportError: attention kernels that are not installed
        raise UserError(f"cannot load the model: {str(exc).strip().splitlines()[0]}", where=name) from None
    if not shared:
        return model
    if config.compile:
        scoring.compile_layers(model)
    return scoring.prepare(model, attention, config.max_length)


def with_adapters(model: Any, lora: LoraConfig) -> Any:
    """The model with its weights frozen and adapters added.

    Raises:
        UserError: it has no layers of the configured names.
    """
    import peft

    settings = peft.LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=lora.targets
    )
    try:
        # No task type: peft would then take the forward pass for that of an ordinary language model.
        return peft.get_peft_model(model, settings)
    except ValueError as exc:
        raise UserError(str(exc).strip().splitlines()[0], where="train.lora.targets") from None


def join_deepspeed() -> None:
    """Pass the process group that Ray has set up to accelerate, before the trainer asks for it.

    By itself accelerate finds no device backend on a CPU, and every rank believes to be the only one.
    """
    import torch.distributed as dist
    from accelerate import PartialState

    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    import deepspeed  # noqa: F401  (only here: at module level it would reach into other engines)

    PartialState(backend=dist.get_backend())
    del os.environ["ACCELERATE_USE_DEEPSPEED"]


def check_ranks(trainer: Any) -> None:
    """The trainer must see all of Ray's workers, or every rank would train on everything.

    Raises:
        RuntimeError: it does not.
    """
    import ray.train

    expected, seen = ray.train.get_context().get_world_size(), trainer.accelerator.num_processes
    if expected != seen:
        raise RuntimeError(f"Ray has {expected} workers, the trainer sees {seen}")


def save(trainer: Any, target: Place) -> None:
    """Write the whole model in Hugging Face layout (rank 0; all ranks take part).

    A kill may leave a part of it: the model counts once the marker of the training step is written.
    """
    from transformers import GenerationConfig

    from pipelines.judging.chat import end_of_turn

    tokenizer, model = trainer.processing_class, trainer.accelerator.unwrap_model(trainer.model)
    if merged := hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    stops = dict.fromkeys([end_of_turn(tokenizer), tokenizer.eos_token_id])
    # Greedy, whatever the base model's own sampling defaults: a judge that is asked twice answers the same.
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=[token for token in stops if token is not None],
        pad_token_id=tokenizer.pad_token_id,
    )
    model.config.use_cache = True
    first = trainer.is_world_process_zero()
    others = nullcontext(target) if isinstance(target, Path) else storage.scratch()
    with storage.local_folder(target, last="config.json") if first else others as folder:
        trainer.accelerator.wait_for_everyone()
        if not merged:
            trainer.save_model(str(folder))
        elif first:  # adapters and frozen weights are the same on every rank
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        trainer.accelerator.wait_for_everyone()
        if first:
            (folder / "training_args.bin").unlink(missing_ok=True)


def quiet() -> None:
    """Silence what libraries print on import and at every step; metrics.jsonl has it all."""
    os.environ.update(QUIET)
    warnings.simplefilter("ignore")
    for name in ("DeepSpeed", "deepspeed", "torch._dynamo", "torch._inductor", "trl", "accelerate", "datasets"):
        logging.getLogger(name).setLevel(logging.ERROR)
