"""Engine `trl`: TRL's DPOTrainer on pairs that are already token ids. Imported by the worker only."""

from __future__ import annotations

from typing import Any

import torch
import trl.trainer.utils as trl_utils
from datasets import Dataset
from trl import DPOTrainer

from pipelines.engines.packed.work import Work
from pipelines.training.diverged import Diverged, FiniteTrainer
from pipelines.training.flops import needed
from pipelines.training.order import HashOrder


class PairTrainer(FiniteTrainer, DPOTrainer):
    """DPO + α·NLL as TRL computes it, plus the two losses logged apart, and a stop at the first NaN.

    TRL's NLL is a mean over the chosen tokens of the micro-batch, so it depends on `micro_batch_size`.

    Args:
        order: the order of the rows.
        alpha: weight of the NLL, to take the loss apart again.
    """

    def __init__(self, *args: Any, order: HashOrder, alpha: float, **kwargs: Any) -> None:
        self.order, self.alpha = order, alpha
        self.pairs_seen = 0
        self.work_seen = Work()
        super().__init__(*args, **kwargs)

    @property
    def tokens_seen(self) -> int:
        """Tokens that went through the policy so far, over all workers; a pair's prompt counts twice."""
        return int(self._total_train_tokens)

    def _prepare_dataset(self, dataset: Dataset, *_: Any) -> Dataset:
        return dataset  # the rows are token ids already, encoded so that special tokens in them are plain text

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> HashOrder:
        return self.order

    def _send_telemetry(self) -> None:
        """TRL would tell its makers about each run."""

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """No README in each checkpoint."""

    def _compute_loss(self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool) -> torch.Tensor:
        outputs = []

        def recorded(**kwargs: Any) -> Any:
            outputs.append(model(**kwargs))
            return outputs[-1]

        loss = super()._compute_loss(recorded, inputs, return_outputs)
        with torch.no_grad():
            mask = inputs["completion_mask"][:, 1:].chunk(2)[0].bool()
            nll = -outputs[0].log_probs[:, -mask.size(1) :].chunk(2)[0][mask].mean()
            work = work_of(inputs)
            counts = [float(len(mask)), work.tokens, work.scored, work.attended]
            parts = torch.cat(
                [torch.stack([loss.detach(), nll]).double(), torch.tensor(counts, device=nll.device).double()]
            )
            parts = self.accelerator.gather(parts).view(-1, 6)
        if not torch.isfinite(parts).all():
            raise Diverged(f"the loss became {parts[:, 0].mean().item()} at step {self.state.global_step + 1}")
        total, nll_mean = parts[:, 0].mean().item(), parts[:, 1].mean().item()
        self.pairs_seen += int(parts[:, 2].sum())
        self.work_seen += Work(*parts[:, 3:].sum(0).tolist())
        self._metrics["train"]["loss_nll"].append(nll_mean)
        self._metrics["train"]["loss_dpo"].append(total - self.alpha * nll_mean)
        return loss


def work_of(inputs: dict[str, torch.Tensor]) -> Work:
    """What the pairs of a micro-batch need at least: their prompts once."""
    total, completion = inputs["attention_mask"].sum(1), inputs["completion_mask"].sum(1)
    (chosen, rejected), prompt = completion.chunk(2), (total - completion).chunk(2)[0]
    parts = zip(prompt.tolist(), chosen.tolist(), rejected.tolist(), strict=True)
    return sum((needed(*lengths) for lengths in parts), Work())


def score_completions_only() -> None:
    """Let TRL's fused head skip the prompt positions on a CPU too, as it does on GPUs. The loss is the same.

    On a CPU TRL projects every position onto the vocabulary and masks the result, a choice made for devices that
    recompile at each new shape; three quarters of a judge's tokens are prompt.
    """
    if hasattr(trl_utils, "_use_triton"):  # asked there only for which positions to score, not for the kernels
        trl_utils._use_triton = lambda device: True
