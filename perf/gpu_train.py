"""Reference pass and optimizer steps on one device, by our engine and by TRL's trainer: speed, memory, MFU."""

from __future__ import annotations

import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from perf.gpu_check import kernels_for
from perf.gpu_shapes import Setup, llama, pairs, peak

WARMUP = 3  # steps that are not timed: kernels are compiled in them
CALIBRATION = 2  # of TRL's batches of the reference pass, likewise
Job = dict[str, Any]


class Table:
    """What `shared.Steps` asks of a datasets.Dataset."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa

        self.rows, self.data = rows, pa.Table.from_pylist(rows)

    def __getitem__(self, i: Any) -> Any:
        return [row[i] for row in self.rows] if isinstance(i, str) else self.rows[i]

    def __len__(self) -> int:
        return len(self.rows)


def ours(setup: Setup, job: Job) -> dict[str, Any]:
    """Engine `shared`.

    Args:
        setup: the sizes.
        job: `attention`; `kernels` of `training.kernels`; whether weights are float32 in `shards` that FSDP2 casts once
            a step, or under autocast; `checkpointing`; `compile`, of all but attention; `float8`.
    """
    import torch

    from pipelines.engines.packed import backends
    from pipelines.engines.packed.work import Shape, Work
    from pipelines.training import kernels, scoring, settings
    from pipelines.training.config import TrainConfig
    from pipelines.training.order import HashOrder
    from pipelines.training.reference import ReferenceScores
    from pipelines.training.shared import SharedTrainer

    attention, shards, remarks = job["attention"], job.get("shards", False), list[str]()
    if not setup.gpu and attention == "flex":
        attention = "mask"
        remarks.append("flex has no backward pass on a CPU: mask")
    rows = pairs(setup, (WARMUP + setup.steps) * setup.batch)
    config = TrainConfig(
        batch_size=setup.batch,
        bin_tokens=setup.bin_tokens,
        max_length=8192,
        gpus_per_worker=float(setup.gpu),
        precision="float32" if shards or not setup.gpu else "bfloat16_autocast",
        gradient_checkpointing=job.get("checkpointing", False),
        warmup_ratio=0.0,
        trackers=[],
        checkpoint_steps=10**6,
    )
    with kernels_for(setup, remarks):
        model = llama(setup, backends.implementation(attention))
        remarks.append(f"kernels: {kernels.fuse(model, job.get('kernels', 'auto'), setup.gpu)}")
        if job.get("float8"):
            remarks.append(f"float8: {kernels.use_float8(model, emulate=not setup.gpu)} layers")
        if shards:
            shard(model, setup)
        if job.get("compile") and setup.gpu:
            scoring.compile_layers(model)
        scoring.prepare(model, attention, config.max_length)
        # The reference pass, as its stage does it.
        stage = ReferenceScores(config, "")
        stage.device, stage.model = torch.device(setup.device), model.eval()
        half = len(rows) // 2
        stage.apply_batch(rows[:-half])  # kernels are compiled here
        setup.sync()
        start = time.perf_counter()
        stage.apply_batch(rows[-half:])
        setup.sync()
        reference = (time.perf_counter() - start) / half
        with tempfile.TemporaryDirectory() as folder:
            clock, arguments = timer(setup), settings.arguments(config, Path(folder), 0)
            arguments.save_strategy = "no"
            trainer = SharedTrainer(
                rows=Table(rows),
                config=config,
                model=model,
                args=arguments,
                order=HashOrder([row["row_id"] for row in rows], 0),
                callbacks=[clock],
            )
            work, original = list[Work](), trainer.training_step

            def noted(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
                work.append(sum((micro["packed"]["work"] for micro in inputs["micro"]), Work()))
                return original(model, inputs, *args, **kwargs)

            trainer.training_step = noted
            reset_memory(setup)
            trainer.train()
    timed = work[WARMUP:]
    found = summary(setup, clock.times, sum(timed, Work()), Shape.of(model.config), reference)
    return {**found, **losses(trainer), "tokens": [round(each.tokens) for each in timed], "remarks": remarks}


def trl(setup: Setup, job: Job) -> dict[str, Any]:
    """TRL's DPOTrainer, padded as it pads.

    Args:
        setup: the sizes.
        job: pairs of a forward pass (`micro`); `checkpointing`; `kernels`; whether the reference's log-probabilities
            are `cached`, or the reference is in the loop.
    """
    import datasets
    import trl as library
    import trl.trainer.dpo_trainer as inside

    from pipelines.engines.packed.work import Shape, Work
    from pipelines.training import dpo, kernels, settings
    from pipelines.training.config import TrainConfig
    from pipelines.training.flops import needed
    from pipelines.training.order import HashOrder

    rows = pairs(setup, (WARMUP + setup.steps) * setup.batch)
    micro = 1 if setup.tiny else job["micro"]
    config = TrainConfig(
        engine="trl",
        nll="token",
        batch_size=setup.batch,
        micro_batch_size=micro,
        max_length=8192,
        attention="sdpa",
        gpus_per_worker=float(setup.gpu),
        gradient_checkpointing=job["checkpointing"],
        warmup_ratio=0.0,
        trackers=[],
        checkpoint_steps=10**6,
    )
    model = llama(setup, "sdpa")
    remarks = [f"kernels: {kernels.fuse(model, job.get('kernels', 'none'), setup.gpu)}"]
    frozen = None if job["cached"] else llama(setup, "sdpa").requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        clock, arguments = timer(setup), settings.arguments(config, Path(folder), 0)
        arguments.save_strategy = "no"
        if job["cached"]:  # no hash of all weights, no file: the values do not matter for the speed
            for row in rows:
                row["ref_chosen_logps"] = row["ref_rejected_logps"] = -100.0
            dpo.PairTrainer._precompute_ref_logps = lambda self, dataset, *_: dataset
            inside.hash_module = lambda module: "none"
            arguments.precompute_ref_log_probs = True
        order = HashOrder([row["row_id"] for row in rows], 0)
        trainer = dpo.PairTrainer(
            model=model,
            ref_model=frozen,
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tokenizer(),
            order=order,
            alpha=1.0,
            callbacks=[clock],
        )
        reference = ahead(trainer, setup, micro) if job["cached"] else None
        reset_memory(setup)
        trainer.train()
    lengths = [[len(rows[i][name]) for name in ("prompt_ids", "chosen_ids", "rejected_ids")] for i in order]
    timed = sum((needed(*each) for each in lengths[WARMUP * setup.batch :]), Work())
    found = summary(setup, clock.times, timed, Shape.of(model.config), reference)
    return {**found, **losses(trainer), "micro": micro, "trl": library.__version__, "remarks": remarks}


def ahead(trainer: Any, setup: Setup, micro: int) -> float:
    """Seconds a pair of the pass that computes the reference ahead: a forward pass of the same batches."""
    loader, start, count = iter(trainer.get_train_dataloader()), 0.0, 4 if setup.tiny else 8
    for i in range(count):
        batch = {key: value.to(setup.device) if hasattr(value, "to") else value for key, value in next(loader).items()}
        if i == CALIBRATION:
            setup.sync()
            start = time.perf_counter()
        trainer.compute_ref_log_probs(trainer.model, batch)
    setup.sync()
    return (time.perf_counter() - start) / ((count - CALIBRATION) * micro)


def summary(setup: Setup, times: list[float], work: Any, shape: Any, reference: float | None) -> dict[str, Any]:
    """Speed and memory of the timed steps.

    Args:
        setup: the sizes.
        times: at the end of each step.
        work: of the timed steps; what several pairs begin with counts once for ours, a pair's prompt once for TRL.
        shape: of the model.
        reference: seconds a pair of the reference pass, or None if the reference was in the loop.
    """
    import torch

    seconds, most = times[-1] - times[WARMUP - 1], peak(setup.device)
    rate = (len(times) - WARMUP) * setup.batch / seconds
    useful = shape.model_flops(work)
    found = {
        "pairs_per_second": round(rate, 3),
        "with_reference": round(rate if reference is None else 1 / (1 / rate + reference), 3),
        "step_seconds": [round(b - a, 3) for a, b in pairwise(times[WARMUP - 1 :])],
        "first_steps": [round(b - a, 2) for a, b in pairwise(times[:WARMUP])],
        "tflop_per_second": round(useful / seconds / 1e12, 3),
        "mfu": most and round(useful / seconds / most, 4),
        "torch": torch.__version__,
    }
    if setup.gpu:
        found["peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 2)
        found["reserved_gb"] = round(torch.cuda.max_memory_reserved() / 1e9, 2)
    return found


def losses(trainer: Any) -> dict[str, list[float]]:
    """The first and the last."""
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"losses": [logged[0], logged[-1]]}


def timer(setup: Setup) -> Any:
    """A callback that notes the time after each optimizer step."""
    from transformers import TrainerCallback

    class Timer(TrainerCallback):
        def __init__(self) -> None:
            self.times: list[float] = []

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            setup.sync()
            self.times.append(time.perf_counter())

    return Timer()


def reset_memory(setup: Setup) -> None:
    """Count peak memory from here on."""
    if setup.gpu:
        import torch

        torch.cuda.reset_peak_memory_stats()


def shard(model: Any, setup: Setup) -> None:
    """FSDP2 as the design has it, on one rank: float32 weights in shards, cast once to bfloat16 where they are used."""
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    if not dist.is_initialized():
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", str(20000 + os.getpid() % 20000))
        dist.init_process_group("nccl" if setup.gpu else "gloo", rank=0, world_size=1)
    mesh = init_device_mesh(setup.device, (1,))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for part in (*model.model.layers, model):
        fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=False)


def tokenizer() -> Any:
    """Any with a token for padding: the pairs are token ids already."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {**{f"w{i}": i for i in range(8)}, "<pad>": 8}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")), pad_token="<pad>", eos_token="<pad>"
    )
