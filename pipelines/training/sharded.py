"""Checkpoints in parts: each rank writes its share of weights and optimizer while training goes on.

They are PyTorch's distributed checkpoints (DCP). What is there on several ranks is written once, and any number of
ranks can read it, with weights whole or in shards. DeepSpeed writes its own. Imported by the worker only.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from transformers import Trainer

from pipelines.core.errors import UserError

SCHEDULER = "scheduler.pt"
# Frozen weights are those of the model that training starts from.
OPTIONS = StateDictOptions(ignore_frozen_params=True, strict=False)


class ShardedTrainer(Trainer):
    """transformers' Trainer with checkpoints in parts, none of which has the same weights twice.

    Attributes:
        stored: where the checkpoint of a step is kept, if it was moved after writing.
        writing: of the last checkpoint; done when this rank's part is on the disk.
    """

    stored: Callable[[int], str] | None = None
    writing: Future[Any] | None = None
    _group: Any = None

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Nothing within a checkpoint, which has the weights already."""
        if not _internal_call:
            super().save_model(output_dir)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if self.is_deepspeed_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        self.wait()
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        # Returns once all tensors are copied, so that the next step may change them.
        self.writing = dcp.async_save(
            self._state(), checkpoint_id=output_dir, process_group=self._cpu_group(), no_dist=not dist.is_initialized()
        )
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def wait(self) -> None:
        """Until the last checkpoint is on the disk.

        Raises:
            CheckpointException: it could not be written.
        """
        if self.writing is not None:
            self.writing.result()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        # The weights come with the optimizer's state, once there is an optimizer.

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or self.is_deepspeed_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        state = self._state()
        self._read(state, checkpoint)
        set_state_dict(
            self.model,
            self._optimizer(),
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
            options=OPTIONS,
        )
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER, weights_only=True))

    def _load_best_model(self) -> None:
        best = self.state.best_model_checkpoint
        if self.stored is not None:
            best = self.state.best_model_checkpoint = self.stored(self.state.best_global_step)
        if self.is_deepspeed_enabled:
            super()._load_best_model()
            return
        self.wait()
        state = {"model": weights(self.model)}
        self._read(state, str(best))
        set_model_state_dict(self.model, state["model"], options=OPTIONS)

    def _read(self, state: dict[str, Any], folder: str) -> None:
        """Fill a state's tensors from a checkpoint.

        Raises:
            UserError: it is of another kind.
        """
        if not (Path(folder) / ".metadata").exists():
            raise UserError(
                "the checkpoint is of an earlier version", where=folder, fix="train again in another out_dir"
            )
        dcp.load(state, checkpoint_id=folder, process_group=self._cpu_group(), no_dist=not dist.is_initialized())

    def _state(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(self.model, self._optimizer(), options=OPTIONS)
        return {"model": once(self.model, model), "optimizer": optimizer}

    def _optimizer(self) -> Any:
        return getattr(self.optimizer, "optimizer", self.optimizer)  # within accelerate's

    def _cpu_group(self) -> Any:
        """Processes that talk while the training's own group is busy, from CPU to CPU; None without others."""
        if self._group is None and dist.is_initialized():
            self._group = dist.new_group(backend="gloo")
        return self._group


def weights(model: torch.nn.Module) -> dict[str, Any]:
    """The weights that are trained, by name, each once."""
    return once(model, get_model_state_dict(model, options=OPTIONS))


def once(model: torch.nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """A state without the second names of weights that are tied."""
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    tied -= {name for name, _ in model.named_parameters()}
    return {name: value for name, value in state.items() if name not in tied}
