"""Held-out pairs, used to select the best checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipelines.core.errors import UserError
from pipelines.engines.packed.packing import on_device, pack
from pipelines.engines.packed.planning import pair_item, plan_bins, tokens_of
from pipelines.engines.packed.work import Shape
from pipelines.training import settings
from pipelines.training.loss import Step, pair_loss, reference_of
from pipelines.training.pairs import is_held_out
from pipelines.training.settings import HELDOUT_ACCURACY

SUMS = ("pairs", "right", "alone", "alone_right", "loss_dpo", "loss_nll")


def split(groups: Sequence[str], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Indices to train on and indices held out, by hash of the group: rows of one instruction stay together.

    Raises:
        UserError: one of the two is empty.
    """
    held = {group for group in set(groups) if is_held_out(group, share, seed)}
    parts = [i for i, g in enumerate(groups) if g not in held], [i for i, g in enumerate(groups) if g in held]
    if not all(parts):
        fix = "choose another share, or 0 to train on all"
        raise UserError(f"of {len(groups)} pairs {len(parts[1])} would be held out", where="train.holdout", fix=fix)
    return parts


def evaluate(trainer: Any, rows: Any) -> dict[str, float]:
    """Accuracy, number of pairs it counts, and losses on the held-out rows; every worker takes its share of the bins.

    The judge is right about a pair when it gives the chosen completion more probability than the rejected one. For
    judgments without a critique this is the accuracy of a judge that must choose between two verdicts, so only they
    count where there are any; with a critique it also depends on the wording.
    """
    config, device = trainer.config, trainer.args.device
    half = settings.autocast(config)
    workers, rank = trainer.accelerator.num_processes, trainer.accelerator.process_index
    items = [
        pair_item(*(np.asarray(row[name], np.int32) for name in ("prompt_ids", "chosen_ids", "rejected_ids")))
        for row in rows
    ]
    chosen_tokens = sum(len(row["chosen_ids"]) for row in rows)
    sums = torch.zeros(len(SUMS), dtype=torch.float64)
    model = trainer.model.eval()
    shape = Shape.of(model.config)
    for chosen in plan_bins(items, workers, config.bin_tokens, shape.forward if shape else tokens_of)[rank]:
        # An empty bin still takes part in what ZeRO-3 gathers.
        some = [rows[i] for i in chosen] or [rows[0]]
        packed = on_device(pack(some), device)
        # DeepSpeed casts only in a forward pass of its own, and this is the model's.
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
            scores = model(packed)
        policy, tokens = scores.log_probs.view(-1, 2).float(), scores.lengths.view(-1, 2)
        reference = reference_of(some, device)
        terms = pair_loss(
            policy,
            reference,
            tokens,
            packed["prompts"],
            Step(len(rows), chosen_tokens),
            config.beta,
            config.label_smoothing,
            config.nll,
        )
        right = (policy[:, 0] > policy[:, 1]).double()
        alone = torch.tensor([float(bool(r["alone"])) for r in some], dtype=torch.float64, device=device)
        found = [torch.ones_like(right), right, alone, alone * right, terms.dpo.double(), terms.nll.double()]
        sums += float(bool(chosen)) * torch.stack([column.sum() for column in found]).cpu()
    total = trainer.accelerator.reduce(sums.to(device), reduction="sum").tolist()
    pairs, right_, alone_, alone_right, dpo, nll = total
    judged, correct = (alone_, alone_right) if alone_ else (pairs, right_)
    result = {HELDOUT_ACCURACY: correct / judged, "heldout_judged": judged, "heldout_loss_nll": nll / pairs}
    return result if config.recipe == "rs_sft" else {**result, "heldout_loss_dpo": dpo / pairs}
