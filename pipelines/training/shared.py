"""Engine `shared`: DPO+NLL with what pairs begin with computed once. Imported by the worker only."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow.compute as pc
import torch
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from pipelines.engines.packed.packing import pack
from pipelines.engines.packed.planning import pair_item, plan_bins, tokens_of
from pipelines.engines.packed.work import Shape, Work
from pipelines.training import heldout, recipes
from pipelines.training.ahead import Ahead
from pipelines.training.config import TrainConfig
from pipelines.training.diverged import Diverged, FiniteTrainer
from pipelines.training.loss import Step, pair_loss, reference_of
from pipelines.training.order import HashOrder

WORK = ("tokens", "scored", "attended")
PARTS = ("prompt_ids", "chosen_ids", "rejected_ids")
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
    *WORK,
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
        cost: of some work, by which bins are made alike.
    """

    def __init__(
        self,
        rows: Any,
        order: HashOrder,
        batch_size: int,
        budget: int,
        workers: int,
        rank: int,
        cost: Callable[[Work], float] = tokens_of,
    ) -> None:
        self.rows, self.order, self.batch_size, self.budget = rows, order, batch_size, budget
        self.workers, self.rank, self.cost = workers, rank, cost
        # Arrow's own columns: a row of `rows` would become Python lists, which take longer to make than a plan.
        self.ids = {name: rows.data.column(name) for name in PARTS}
        prompt, chosen, rejected = (pc.list_value_length(column).to_numpy() for column in self.ids.values())
        self.lengths, self.chosen = prompt + chosen + rejected, chosen
        self._epoch, self._order = -1, list[int]()

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, step: int) -> dict[str, Any]:
        if self._epoch != self.order.epoch:
            self._epoch, self._order = self.order.epoch, list(self.order)
        batch = self._order[step * self.batch_size : (step + 1) * self.batch_size]
        parts = [{name: column[i].values.to_numpy() for name, column in self.ids.items()} for i in batch]
        items = [pair_item(*(each[name] for name in PARTS)) for each in parts]
        micro = []
        for chosen in plan_bins(items, self.workers, self.budget, self.cost)[self.rank]:
            # A worker without a pair still takes part in every collective operation, with weight zero.
            taken = chosen or [0]
            rows = [self.rows[batch[i]] for i in taken]
            micro.append(
                {
                    "packed": self.packed([batch[i] for i in taken], [parts[i] for i in taken]),
                    "reference": reference_of(rows),
                    "weight": float(bool(chosen)),
                }
            )
        return {
            "micro": micro,
            "step": Step(len(batch), int(sum(self.chosen[i] for i in batch))),
            "tokens": int(sum(self.lengths[i] for i in batch)),
            "row_ids": [self.order.row_ids[i] for i in batch],
        }

    def packed(self, rows: Sequence[int], parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A bin of some rows, of which these are the token ids."""
        return pack(parts)


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
        self._steps: list[tuple[int, Step, list[str], torch.Tensor]] = []  # whose sums are on the device still
        self._window: list[torch.Tensor] = []
        super().__init__(*args, eval_dataset=held, **kwargs)
        workers, rank = self.accelerator.num_processes, self.accelerator.process_index
        shape = Shape.of(self.model.config)
        cost = shape.step if shape else tokens_of
        self.steps = Steps(rows, order, config.batch_size, config.bin_tokens, workers, rank, cost)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """One item a step; sharing among workers is done by `Steps`, so accelerate must not do it again."""
        return DataLoader(Ahead(self.steps), batch_size=1, sampler=SequentialSampler(self.steps), collate_fn=first)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of every bin; gradients are exchanged once, after the last."""
        model.train()
        inputs = self._prepare_inputs(inputs)
        workers, step = self.accelerator.num_processes, inputs["step"]
        sums = torch.zeros(len(SUMS), dtype=torch.float64, device=self.args.device)
        for i, micro in enumerate(inputs["micro"]):
            last = i == len(inputs["micro"]) - 1
            self.accelerator.gradient_state._set_sync_gradients(last)  # as Trainer does between its own batches
            # FSDP2 would keep whole gradients in float32 until the last bin, so it adds up shards instead.
            now = last or self.is_fsdp_enabled
            with contextlib.nullcontext() if now else self.accelerator.no_sync(model):
                total, parts = self.bin_loss(model, micro, step)
                self.accelerator.backward(total * workers)  # the gradient is a mean over workers
            sums += parts.to(sums.device)
        sums = self.accelerator.reduce(sums, reduction="sum") / step.pairs
        self.pairs_seen += step.pairs
        self.tokens_seen += inputs["tokens"]
        self._steps.append((self.state.global_step + 1, step, inputs["row_ids"], sums))
        return (sums[0] + self.config.alpha * sums[1]).to(torch.float32)

    def settle(self) -> None:
        """Look at the losses and gradients of the steps since the last time, and count their work.

        Raises:
            Diverged: one of them is no longer a number.
        """
        steps, self._steps = self._steps, []
        sums = torch.stack([each for *_, each in steps]).cpu() if steps else ()
        for (number, step, row_ids, _), values in zip(steps, sums, strict=True):
            found = dict(zip(SUMS, values.tolist(), strict=True))
            loss = found["loss_dpo"] + self.config.alpha * found["loss_nll"]
            if not math.isfinite(loss):
                # A gradient of an earlier step is the cause, if one was no number.
                self._norms = tuple(each for each in self._norms if each[0] < number)
                super().settle()
                raise Diverged(f"the loss became {loss} at step {number}, row_ids {', '.join(row_ids)}")
            self.work_seen += Work(*(round(found[name] * step.pairs) for name in WORK))
            self._window.append(values)
        super().settle()

    def bin_loss(self, model: Any, micro: dict[str, Any], step: Step) -> tuple[torch.Tensor, torch.Tensor]:
        """A bin's share of the step's loss, and its sums for the log."""
        packed, config = micro["packed"], self.config
        scores = model(packed)
        policy, lengths = scores.log_probs.view(-1, 2), scores.lengths.view(-1, 2)
        terms = pair_loss(
            policy,
            micro["reference"],
            lengths,
            packed["prompts"],
            step,
            config.beta,
            config.label_smoothing,
            config.nll,
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
                ]
            ).double()
            work = parts.new_tensor([getattr(packed["work"], name) for name in WORK])
        return total, micro["weight"] * torch.cat([parts, work])

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Judge the held-out pairs; the library keeps the checkpoint with the highest accuracy."""
        found = {f"eval_{name}": value for name, value in heldout.evaluate(self, self.held).items()}
        self.log(dict(found))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means over the steps since the last log."""
        self.settle()
        if self._window and "loss" in logs:
            means = dict(zip(SUMS, torch.stack(self._window).mean(0).tolist(), strict=True))
            means["rewards/margins"] = means["rewards/chosen"] - means["rewards/rejected"]
            left_out = (*WORK, *recipes.unlogged(self.config))
            logs |= {name: mean for name, mean in means.items() if name not in left_out}
            self._window.clear()
        super().log(logs, *args, **kwargs)


def first(items: Sequence[Any]) -> Any:
    """A step is a batch already."""
    return items[0]
