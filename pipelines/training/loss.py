"""DPO + α·NLL of pairs from the log-probabilities of their completions (§2.4 of arXiv 2501.17195)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F

Normalization = Literal["sequence", "sequence_with_prompt", "token"]


@dataclass(frozen=True)
class Step:
    """What the loss of one pair must know about the whole optimizer step, over all workers."""

    pairs: int
    chosen_tokens: int


@dataclass
class PairLoss:
    """Terms of the loss, one value per pair (N,); the step's loss is the sum over all its pairs / `Step.pairs`."""

    dpo: torch.Tensor
    nll: torch.Tensor
    chosen_rewards: torch.Tensor
    rejected_rewards: torch.Tensor


def reference_of(rows: Sequence[dict[str, Any]], device: torch.device | None = None) -> torch.Tensor | None:
    """The reference's log-probabilities of some rows (N, 2); None where the rows come without."""
    if "ref_chosen_logp" not in rows[0]:
        return None
    return torch.tensor([[row["ref_chosen_logp"], row["ref_rejected_logp"]] for row in rows], device=device)


def pair_loss(
    policy: torch.Tensor,
    reference: torch.Tensor | None,
    lengths: torch.Tensor,
    prompts: torch.Tensor,
    step: Step,
    beta: float,
    label_smoothing: float,
    normalization: Normalization,
) -> PairLoss:
    """The two losses of each pair; neither depends on which pairs share a bin.

    Args:
        policy: (N, 2), log-probability of the chosen and of the rejected completion.
        reference: (N, 2), the same of the frozen model; None leaves out what needs it, which is then 0.
        lengths: (N, 2), tokens of the completions.
        prompts: (N,), tokens of the prompts.
        step: totals of the optimizer step.
        beta: strength of the tie to the reference (arXiv 2305.18290, eq. 7).
        label_smoothing: chance that a pair is labelled the wrong way round (conservative DPO).
        normalization: what the NLL of a chosen completion is divided by: `sequence`, its own tokens (Iterative RPO,
            arXiv 2404.19733, eq. 1); `sequence_with_prompt`, those and the prompt's (SFR-Judge, arXiv 2409.14664);
            `token`, the mean chosen tokens of a pair in the step, which makes all chosen tokens count the same.
    """
    if reference is None:
        rewards = torch.zeros_like(policy)
        dpo = rewards[:, 0]
    else:
        rewards = beta * (policy - reference)
        margin = rewards[:, 0] - rewards[:, 1]
        dpo = -F.logsigmoid(margin) * (1 - label_smoothing) - F.logsigmoid(-margin) * label_smoothing
    divisor: torch.Tensor | float
    if normalization == "sequence":
        divisor = lengths[:, 0]
    elif normalization == "sequence_with_prompt":
        divisor = lengths[:, 0] + prompts
    else:
        divisor = step.chosen_tokens / step.pairs
    return PairLoss(dpo, -policy[:, 0] / divisor, rewards[:, 0].detach(), rewards[:, 1].detach())
