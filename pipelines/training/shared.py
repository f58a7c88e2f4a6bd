"""Engine `shared`: DPO+NLL with each pair's prompt computed once. Imported by the worker only."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from typing import Any

import pyarrow.compute as pc
import torch
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from pipelines.engines.packed.packing import assign_bins, pack
from pipelines.training import heldout
from pipelines.training.config import TrainConfig
from pipelines.training.diverged import Diverged, FiniteTrainer
from pipelines.training.flops import Work, needed
from pipelines.training.loss import Step, pair_loss
from pipelines.training.order import HashOrder

# What is summed over the pairs of a step, over all workers, in one vector.
SUMS = (
    "loss_dpo",
    "loss_nll",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
    "entropy",
    "mean_token_accuracy",
    "tokens",
)


class Steps(Dataset[dict[str, Any]]):
    """The optimizer steps of an epoch, as one worker sees them: its own bins of each global batch.

    Args:
        rows: the encoded pairs, with the reference's log-probabilities.
        order: which pairs come when.
        batch_size: pairs of one step over all workers; the last step of an epoch may have fewer.
        budget: tokens of a bin.
        workers: ranks.
        rank: ours.
    """

    def __init__(self, rows: Any, order: HashOrder, batch_size: int, budget: int, workers: int, rank: int) -> None:
        self.rows, self.order, self.batch_size, self.budget = rows, order, batch_size, budget
        self.workers, self.rank = workers, rank
        prompt, chosen, rejected = (
            pc.list_value_length(rows.data.column(name)).to_numpy()
            for name in ("prompt_ids", "chosen_ids", "rejected_ids")
        )
        self.parts = list(zip(prompt.tolist(), chosen.tolist(), rejected.tolist(), strict=True))
        self.lengths, self.chosen = prompt + chosen + rejected, chosen
        self._epoch, self._order = -1, list[int]()

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size)

    def __getitem__(self, step: int) -> dict[str, Any]:
        if self._epoch != self.order.epoch:
            self._epoch, self._order = self.order.epoch, list(self.order)
        batch = self._order[step * self.batch_size : (step + 1) * self.batch_size]
        bins = assign_bins([int(self.lengths[i]) for i in batch], self.workers, self.budget)[self.rank]
        micro = []
        for chosen in bins:
            # A worker without a pair still takes part in every collective operation, with weight zero.
            rows = [self.rows[batch[i]] for i in chosen] or [self.rows[batch[0]]]
            micro.append(
                {
                    "packed": pack(rows),
                    "reference": torch.tensor([[r["ref_chosen_logp"], r["ref_rejected_logp"]] for r in rows]),
                    "weight": float(bool(chosen)),
                }
            )
        return {
            "micro": micro,
            "step": Step(len(batch), int(sum(self.chosen[i] for i in batch))),
            "work": sum((needed(*self.parts[i]) for i in batch), Work()),
            "row_ids": [self.order.row_ids[i] for i in batch],
        }


class SharedTrainer(FiniteTrainer):
    """transformers' Trainer on packed pairs; one of its batches is a whole optimizer step of this worker.

    The loss of a pair is divided by the pairs of the global batch, so it does not depend on how the pairs are
    packed, on how many bins a worker has, or on how many workers there are.

    Args:
        config: the training config.
        rows: the encoded pairs, with the reference's log-probabilities.
        order: which pairs come when.
        held: pairs that are not trained on, or None.
    """

    def __init__(
        self, *args: Any, config: TrainConfig, rows: Any, order: HashOrder, held: Any = None, **kwargs: Any
    ) -> None:
        self.config, self.order, self.held = config, order, held
        self.pairs_seen = self.tokens_seen = 0
        self.work_seen = Work()
        self._window: list[torch.Tensor] = []
        super().__init__(*args, eval_dataset=held, **kwargs)
        workers, rank = self.accelerator.num_processes, self.accelerator.process_index
        self.steps = Steps(rows, order, config.batch_size, config.bin_tokens, workers, rank)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """One item a step; sharing among workers is done by `Steps`, so accelerate must not do it again."""
        return DataLoader(self.steps, batch_size=1, sampler=SequentialSampler(self.steps), collate_fn=first)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of every bin; gradients are exchanged once, after the last.

        Raises:
            Diverged: the loss is no longer a number.
        """
        model.train()
        inputs = self._prepare_inputs(inputs)
        workers, step = self.accelerator.num_processes, inputs["step"]
        sums = torch.zeros(len(SUMS), dtype=torch.float64, device=self.args.device)
        for i, micro in enumerate(inputs["micro"]):
            last = i == len(inputs["micro"]) - 1
            self.accelerator.gradient_state._set_sync_gradients(last)  # as Trainer does between its own batches
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model):
                total, parts = self.bin_loss(model, micro, step)
                self.accelerator.backward(total * workers)  # the gradient is a mean over workers
            sums += parts.to(sums.device)
        sums = self.accelerator.reduce(sums, reduction="sum") / step.pairs
        found = dict(zip(SUMS, sums.tolist(), strict=True))
        loss = found["loss_dpo"] + self.config.alpha * found["loss_nll"]
        if not math.isfinite(loss):
            raise Diverged(
                f"the loss became {loss} at step {self.state.global_step + 1}, row_ids {', '.join(inputs['row_ids'])}"
            )
        self.pairs_seen += step.pairs
        self.work_seen += inputs["work"]
        self.tokens_seen += round(found["tokens"] * step.pairs)
        self._window.append(sums)
        return torch.tensor(loss, device=self.args.device)

    def bin_loss(self, model: Any, micro: dict[str, Any], step: Step) -> tuple[torch.Tensor, torch.Tensor]:
        """A bin's share of the step's loss, and its sums for the log."""
        packed, config = micro["packed"], self.config
        scores = model(packed)
        policy, lengths = scores.log_probs.view(-1, 2), scores.lengths.view(-1, 2)
        prompts = torch.tensor([span.prompt for span in packed["spans"]], device=policy.device)
        terms = pair_loss(
            policy, micro["reference"], lengths, prompts, step, config.beta, config.label_smoothing, config.nll
        )
        total = micro["weight"] * (terms.dpo + config.alpha * terms.nll).sum() / step.pairs
        with torch.no_grad():
            n = len(policy)
            parts = torch.stack(
                [
                    terms.dpo.sum(),
                    terms.nll.sum(),
                    terms.chosen_rewards.sum(),
                    terms.rejected_rewards.sum(),
                    (terms.chosen_rewards > terms.rejected_rewards).float().sum(),
                    *policy.sum(0),
                    scores.entropy * n,
                    scores.hits * n,
                    torch.tensor(float(packed["input_ids"].numel()), device=policy.device),
                ]
            )
        return total, micro["weight"] * parts.double()

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Judge the held-out pairs; the library keeps the checkpoint with the highest accuracy."""
        found = {f"eval_{name}": value for name, value in heldout.evaluate(self, self.held).items()}
        self.log(dict(found))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means over the steps since the last log."""
        if self._window and "loss" in logs:
            means = dict(zip(SUMS, torch.stack(self._window).mean(0).tolist(), strict=True))
            means["rewards/margins"] = means["rewards/chosen"] - means["rewards/rejected"]
            del means["tokens"]
            logs |= means
            self._window.clear()
        super().log(logs, *args, **kwargs)


def first(items: Sequence[Any]) -> Any:
    """A step is a batch already."""
    return items[0]
