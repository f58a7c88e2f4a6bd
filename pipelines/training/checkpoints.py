"""Checkpoints: each worker writes its part to a local disk, and Ray Train copies it while training continues.

A checkpoint counts once the parts of all workers are in the run's storage: Ray Train registers it then, gives the
newest to the workers of the next attempt, and deletes those no longer wanted. Imported by the worker only.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import ray.train
from ray.train import Checkpoint
from ray.train.v2.api.report_config import CheckpointConsistencyMode, CheckpointUploadMode
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipelines.core.determinism import digest
from pipelines.core.storage import Place
from pipelines.training.settings import HELDOUT_ACCURACY, SCORE
from pipelines.training.sharded import ShardedTrainer


def staging(work: Place, rank: int, disk: Path | None = None) -> Path:
    """An empty folder on this worker's own disk. Its name is the same in every attempt, so none is left behind.

    Args:
        work: the run's folder.
        rank: of the worker; two on one machine must not upload each other's part.
        disk: a folder of it; made if it is not there. None is that for temporary files.
    """
    folder = (disk or Path(tempfile.gettempdir())) / f"openselene-{digest(str(work), size=6)}-{rank}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def node_folder(work: Place) -> Path:
    """The folder of what all workers of a machine read, where the run's folder is in a store."""
    return Path(tempfile.gettempdir()) / f"openselene-{digest(str(work), size=6)}-node"


def folder_of(step: int) -> str:
    """transformers' name for the checkpoint after an optimizer step, also used in the run's storage."""
    return f"checkpoint-{step}"


def step_of(checkpoint: Checkpoint | None) -> int:
    """The optimizer step a checkpoint was written after; 0 for none."""
    found = re.search(r"checkpoint-(\d+)$", str(checkpoint.path)) if checkpoint else None
    return int(found[1]) if found else 0


def stored(local: Path, step: int) -> str:
    """Path of a step's checkpoint, in the run's storage or copied from it; waits until pending uploads have arrived.

    Args:
        local: this worker's own folder, for a copy.
        step: of the optimizer.

    Raises:
        LookupError: it was not kept.
    """
    for found in ray.train.get_all_reported_checkpoints(consistency_mode=CheckpointConsistencyMode.COMMITTED):
        if step_of(found.checkpoint) == step:
            if str(found.checkpoint.path).startswith("/"):  # in a store, paths begin with the bucket
                return str(found.checkpoint.path)
            return str(found.checkpoint.to_directory(str(local / "stored")))
    raise LookupError(f"no checkpoint of step {step} was kept")


class BeforeANodeGoes(TrainerCallback):
    """Saves a checkpoint once a worker's node has been given notice, as spot machines are: no step is lost with it."""

    def __init__(self) -> None:
        self.known: set[str] = set()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # Every rank asks after every step, and all get the same answer: saving needs all of them.
        notice = ray.train.get_preemption_info()
        going = set(notice.preempted_node_ids) if notice else set()
        if going - self.known and state.global_step < state.max_steps:
            control.should_save = True
        self.known |= going


class HandOver(TrainerCallback):
    """Hands every checkpoint to Ray Train, which copies this worker's part as soon as it is written.

    Args:
        trainer: whose checkpoints they are.
    """

    def __init__(self, trainer: ShardedTrainer) -> None:
        self.trainer = trainer
        self.accuracy: float | None = None

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        self.accuracy = (metrics or {}).get(f"eval_{HELDOUT_ACCURACY}")
        # The library notes a best checkpoint only where it finds the folder: on every rank, or they would disagree.
        (Path(str(args.output_dir)) / folder_of(state.global_step)).mkdir(exist_ok=True)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # One upload at a time: where copying is slower than training, the worker's disk must not fill up.
        ray.train.get_all_reported_checkpoints(consistency_mode=CheckpointConsistencyMode.COMMITTED)
        part = Path(str(args.output_dir)) / folder_of(state.global_step)
        part.mkdir(exist_ok=True)
        # Of two equal accuracies the earlier step wins, as in the library.
        score = {} if self.accuracy is None else {SCORE: self.accuracy - 1e-9 * state.global_step}
        storage, writing = ray.train.get_context().get_storage(), self.trainer.writing

        def upload(part: Checkpoint, name: str) -> Checkpoint:
            """Copies the part in a thread of Ray Train's own, once the other thread has written it."""
            if writing is not None:
                writing.result()
            copied: Checkpoint = storage.persist_current_checkpoint(part, name)
            return copied

        ray.train.report(
            {"step": state.global_step, **score},
            checkpoint=Checkpoint.from_directory(part),
            checkpoint_dir_name=folder_of(state.global_step),
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            checkpoint_upload_fn=upload,
        )
        self.accuracy = None  # a checkpoint between two evaluations has none, and cannot be the best

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        # The folder it is copied from goes away.
        ray.train.get_all_reported_checkpoints(consistency_mode=CheckpointConsistencyMode.COMMITTED)
