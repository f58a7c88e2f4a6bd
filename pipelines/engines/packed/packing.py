"""Pack pairs into bins of few tokens, the prompt of a pair once and without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Span:
    """Where one pair lies in a packed sequence: its first token and the tokens of its three parts."""

    start: int
    prompt: int
    chosen: int
    rejected: int

    @property
    def tokens(self) -> int:
        """Tokens of the whole pair."""
        return self.prompt + self.chosen + self.rejected


def assign_bins(lengths: Sequence[int], workers: int, budget: int) -> list[list[list[int]]]:
    """Share the pairs of one optimizer step among workers, in bins that differ little in tokens.

    The longest pair goes first, always to the emptiest bin (Graham's LPT rule), with as few bins as the budget
    allows. Every worker gets the same number of bins: collective operations of one bin meet those of another.

    Args:
        lengths: tokens of each pair.
        workers: ranks.
        budget: tokens of a bin; a longer pair is a bin of its own.

    Returns:
        For each worker its bins, each a list of indices into `lengths`; every index once. Bins may be empty.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    limit = max(budget, lengths[order[0]]) if order else budget
    most = -(-len(order) // workers)
    for each in range(max(1, -(-sum(lengths) // (limit * workers))), most + 1):
        bins: list[list[int]] = [[] for _ in range(each * workers)]
        loads = [0] * len(bins)
        for i in order:
            emptiest = loads.index(min(loads))
            bins[emptiest].append(i)
            loads[emptiest] += lengths[i]
        if max(loads) <= limit or each == most:
            break
    heaviest = sorted(range(len(bins)), key=lambda b: (-loads[b], b))
    # Dealt out by weight, so that the bins that meet in one forward pass weigh the same.
    return [[bins[b] for b in heaviest[worker::workers]] for worker in range(workers)]


def pack(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pack pairs into one sequence: prompt, chosen, rejected; prompt, chosen, rejected; ...

    Positions of a rejected completion begin again at the end of its prompt.

    Args:
        rows: with prompt_ids, chosen_ids and rejected_ids.

    Returns:
        input_ids and position_ids (1, T); `sources` (K,), where in the sequence each completion token is predicted;
        `targets` (K,), which token that is; `completions` (K,), the number of its completion: 2i for the i-th pair's
        chosen, 2i + 1 for its rejected one; `spans`, a Span per pair.
    """
    ids: list[int] = []
    positions: list[int] = []
    sources: list[int] = []
    targets: list[int] = []
    completions: list[int] = []
    spans = []
    for row in rows:
        prompt, start = row["prompt_ids"], len(ids)
        spans.append(Span(start, len(prompt), len(row["chosen_ids"]), len(row["rejected_ids"])))
        ids += prompt
        positions += range(len(prompt))
        for side in ("chosen_ids", "rejected_ids"):
            completion = row[side]
            # The prompt's last token predicts the first of both completions.
            sources += [start + len(prompt) - 1, *range(len(ids), len(ids) + len(completion) - 1)]
            targets += completion
            completions += [2 * (len(spans) - 1) + (side == "rejected_ids")] * len(completion)
            ids += completion
            positions += range(len(prompt), len(prompt) + len(completion))
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([positions]),
        "sources": torch.tensor(sources),
        "targets": torch.tensor(targets),
        "completions": torch.tensor(completions),
        "spans": spans,
    }


def on_device(packed: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The packed sequence with its tensors on `device`."""
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in packed.items()}
