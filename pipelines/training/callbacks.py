"""What the trainer does besides training: write metrics, order each epoch. Imported by the worker only."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pipelines.core import storage
from pipelines.core.storage import Place
from pipelines.engines.packed.work import Shape
from pipelines.training import counts, metrics
from pipelines.training.settings import HELDOUT_ACCURACY

if TYPE_CHECKING:
    from pipelines.training.dpo import PairTrainer
    from pipelines.training.order import HashOrder
    from pipelines.training.shared import SharedTrainer

# TRL's name -> ours, in the order of the file.
LOGGED = {
    "loss": "loss",
    "loss_dpo": "loss_dpo",
    "loss_nll": "loss_nll",
    "rewards/margins": "rewards/margins",
    "rewards/accuracies": "rewards/accuracies",
    "rewards/chosen": "rewards/chosen",
    "rewards/rejected": "rewards/rejected",
    "logps/chosen": "logps/chosen",
    "logps/rejected": "logps/rejected",
    "entropy": "entropy",
    "mean_token_accuracy": "mean_token_accuracy",
    "grad_norm": "grad_norm",
    "learning_rate": "lr",
}


class MetricsLog(TrainerCallback):
    """Log one JSON object a step: losses, rewards, speed; `elapsed` counts the seconds of earlier attempts too.

    Args:
        place: of the log; that of the held-out pairs is in the same folder.
        shape: of the model, to tell how many operations the tokens need; None where it is not known.
    """

    def __init__(self, place: Place, shape: Shape | None = None) -> None:
        self.log, self.heldout = metrics.Log(place), metrics.Log(place.with_name(metrics.HELDOUT))
        self.shape = shape
        self.peak_tflops: float | None = None  # of all workers together, to tell what share of it is used (MFU)
        self.trainer: PairTrainer | SharedTrainer | None = None
        self.earlier = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        assert self.trainer is not None
        if state.is_world_process_zero:
            self.earlier = self.log.rewind(state.global_step)
            self.heldout.rewind(state.global_step)
            counts.trained_again(self.log.undone)
        self.start = self.before = time.monotonic()
        self.pairs, self.tokens = self.trainer.pairs_seen, self.trainer.tokens_seen
        self.flops = self._flops()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        assert self.trainer is not None
        if not logs or not state.is_world_process_zero:
            return
        now = time.monotonic()
        if f"eval_{HELDOUT_ACCURACY}" in logs:
            found = {name.removeprefix("eval_"): value for name, value in logs.items() if name.startswith("eval_")}
            when = {"step": state.global_step, "elapsed": self.earlier + now - self.start}
            self.heldout.append(when | found)
            counts.held_out(found[HELDOUT_ACCURACY])
        if "loss" not in logs:
            return
        pairs, tokens = self.trainer.pairs_seen - self.pairs, self.trainer.tokens_seen - self.tokens
        step: metrics.Step = {"step": state.global_step, "steps": state.max_steps, "epoch": state.epoch}
        step |= {ours: float(logs[theirs]) for theirs, ours in LOGGED.items() if theirs in logs}
        step |= {
            "pairs": pairs,
            "tokens": tokens,
            "pairs_per_second": pairs / (now - self.before),
            "tokens_per_second": tokens / (now - self.before),
            "elapsed": self.earlier + now - self.start,
        }
        if self.shape:
            flops = self._flops()
            step["tflops"] = (flops - self.flops) / (now - self.before) / 1e12
            self.flops = flops
            if self.peak_tflops:
                step["mfu"] = step["tflops"] / self.peak_tflops
        self.log.append(step)
        counts.trained(step)
        self.before, self.pairs, self.tokens = now, self.trainer.pairs_seen, self.trainer.tokens_seen

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.flush()  # a run that resumes from this checkpoint needs all lines before it

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.flush()

    def flush(self) -> None:
        """Write what the logs hold back."""
        self.log.flush()
        self.heldout.flush()

    def _flops(self) -> float:
        assert self.trainer is not None
        return self.shape.model_flops(self.trainer.work_seen) if self.shape else 0.0


class EventFiles(TrainerCallback):
    """Brings TensorBoard's files to the run's folder, where that is in a store: they are written by appending.

    Args:
        place: where they belong.
        local: a folder of this machine, for the time of writing.
    """

    def __init__(self, place: Place, local: Path) -> None:
        self.place = place
        self.folder = place if isinstance(place, Path) else local

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self.folder != self.place and state.is_world_process_zero:
            storage.upload(Path(str(self.folder)), self.place)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.on_save(args, state, control)


class NextOrder(TrainerCallback):
    """Give each epoch an order of its own; also right after a resume in the middle of one."""

    def __init__(self, order: HashOrder) -> None:
        self.order = order

    def on_epoch_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.order.epoch = int(state.epoch or 0)


class NoLastCheckpoint(TrainerCallback):
    """Skip the checkpoint at the very end: the model follows."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            # With held-out pairs the last step is a candidate like any other.
            control.should_save = control.should_evaluate = bool(args.load_best_model_at_end)
