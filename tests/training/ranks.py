"""Trains on several gloo ranks without Ray, each a process of its own, one training after another.

Run as `python -m tests.training.ranks RANK RANKS PORT FOLDER`; what to train is in FOLDER/cases.json.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WAIT = 60  # seconds that a rank waits for another: one that hangs is an error, not a test without end


def run(folder: Path, cases: list[dict[str, Any]], ranks: int = 2, limit: float = 420) -> dict[str, Any]:
    """Train every case on all ranks.

    Args:
        folder: for everything.
        cases: each with name, config, model and rows (folders), and optionally chunk (logits at once) and resume (a
            checkpoint's folder).
        ranks: processes.
        limit: seconds for all.

    Returns:
        Per case what its ranks told; `FOLDER/NAME/model` has the trained model, `FOLDER/NAME/checkpoint-N` the parts
        of a checkpoint in one folder.
    """
    folder.mkdir(parents=True)
    (folder / "cases.json").write_text(json.dumps(cases))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.ranks"]
    processes, logs = [], []
    for rank in range(ranks):
        logs.append(folder / f"rank-{rank}.log")
        with logs[-1].open("w") as log:
            arguments = [*command, str(rank), str(ranks), port, str(folder)]
            processes.append(subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=log, stderr=log))
    deadline = time.monotonic() + limit
    try:
        while any(process.poll() is None for process in processes):
            failed = any(process.poll() not in (None, 0) for process in processes)
            assert not failed and time.monotonic() < deadline, tails(logs)
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert all(process.returncode == 0 for process in processes), tails(logs)
    told = [json.loads((folder / f"told-{rank}.json").read_text()) for rank in range(ranks)]
    return {case["name"]: [each[case["name"]] for each in told] for case in cases}


def tails(logs: list[Path]) -> str:
    """What the ranks said last."""
    return "\n".join(f"--- {log.name}\n{log.read_text()[-4000:]}" for log in logs)


def main(rank: int, ranks: int, port: str, folder: Path) -> None:
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    os.environ.update({name: str(value) for name, value in names.items()})
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
    from pipelines.training.worker import quiet

    quiet()
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=ranks, timeout=timedelta(seconds=WAIT))
    told = {case["name"]: train(case, rank, ranks, folder) for case in json.loads((folder / "cases.json").read_text())}
    (folder / f"told-{rank}.json").write_text(json.dumps(told))
    dist.barrier()
    dist.destroy_process_group()


def train(case: dict[str, Any], rank: int, ranks: int, folder: Path) -> dict[str, Any]:
    """One training; what this rank saw of it."""
    import torch
    import torch.distributed as dist
    from accelerate.state import AcceleratorState

    from pipelines.core.run import Run
    from pipelines.training import head_logprobs, scoring, worker
    from pipelines.training.config import TrainConfig

    # A worker trains once; here what the libraries keep of the training before has to go.
    AcceleratorState._reset_state(reset_partial_state=True)
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_MIXED_PRECISION"):
        os.environ.pop(name, None)
    gc.collect()
    out, config = folder / case["name"], TrainConfig.model_validate(case["config"])
    scoring.CHUNK = case.get("chunk", 2**25)
    seen: dict[str, list[str]] = {"train": [], "eval": []}
    chunks: list[int] = []
    products: list[Any] = []
    head_logprobs.TILE = 1 if "chunk" in case else 128  # or the few tokens of a test are one chunk
    kept = scoring.chunk_scores, scoring.head_scores, head_logprobs.logits

    def note(dtype: Any) -> None:
        seen["train" if torch.is_grad_enabled() else "eval"].append(str(dtype).removeprefix("torch."))

    def chunk_scores(hidden: Any, weight: Any, bias: Any, targets: Any) -> Any:
        chunks.append(len(targets))
        note(torch.nn.functional.linear(hidden, weight, bias).dtype)
        return kept[0](hidden, weight, bias, targets)

    def head_scores(*given: Any) -> Any:
        found = kept[1](*given)
        note(products[-1])
        return found

    def logits(rows: Any, *given: Any) -> Any:
        chunks.append(len(rows))
        products.append(rows.dtype)
        return kept[2](rows, *given)

    scoring.chunk_scores, scoring.head_scores, head_logprobs.logits = chunk_scores, head_scores, logits
    try:
        worker.join(config)
        job = worker.Job(config, case["model"], Path(case["rows"]), Run(out))
        local = folder / f"parts-{rank}" / case["name"]
        trainer = worker.build(job, local)
        assert trainer.accelerator.num_processes == ranks
        trainer.train(resume_from_checkpoint=case.get("resume"))
        trainer.wait()
    finally:
        scoring.chunk_scores, scoring.head_scores, head_logprobs.logits = kept
    told = {
        "strategy": str(trainer.accelerator.distributed_type),
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        "norms": [entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry],
        "heldout": [e["eval_heldout_loss_nll"] for e in trainer.state.log_history if "eval_heldout_loss_nll" in e],
        "dtypes": {name: sorted(set(found)) for name, found in seen.items()},
        "chunks": len(chunks),
        "share": share(trainer.model),
        "stored": sorted({str(p.dtype) for p in trainer.model.parameters()}),
        "comm": sorted({str(getattr(p, "comm_dtype", p.dtype)) for p in trainer.model.parameters()}),
    }
    worker.save(trainer, job)
    for part in sorted(local.glob("checkpoint-*")):
        shutil.copytree(part, out / part.name, dirs_exist_ok=True)  # as Ray Train brings them together
        dist.barrier()
    dist.barrier()
    return told


def share(model: Any) -> float:
    """Of all weights, what this rank keeps."""
    kept, whole = 0, 0
    for weight in model.parameters():
        local = weight.to_local() if hasattr(weight, "to_local") else getattr(weight, "ds_tensor", weight)
        kept, whole = kept + local.numel(), whole + getattr(weight, "ds_numel", weight.numel())
    return kept / whole


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
