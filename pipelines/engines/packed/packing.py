"""Pack pairs into one sequence in which every distinct token is there once, without padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipelines.engines.packed.trie import build
from pipelines.engines.packed.work import Work

SIDES = ("chosen_ids", "rejected_ids")


def pack(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Pack pairs into one sequence: the trie of prompt + chosen and prompt + rejected of each.

    Args:
        rows: with prompt_ids, chosen_ids and rejected_ids.

    Returns:
        `tree`, a Trie; its input_ids and position_ids (1, T). Of each token of the trie that belongs to a completion,
        `sources` (S,), where it is predicted, and `targets` (S,), which token it is. Of each token of each completion,
        `members` (K,), its place in those two, and `completions` (K,), the number of its completion: 2i for the i-th
        pair's chosen, 2i + 1 for its rejected one. `prompts` (N,), tokens of each prompt. `work`, what all this takes.
    """
    tree = build([np.concatenate([row["prompt_ids"], row[side]]) for row in rows for side in SIDES])
    prompts = [len(row["prompt_ids"]) for row in rows]
    tokens = [path[prompts[i // 2] :] for i, path in enumerate(tree.paths)]
    # A token is predicted by the one before it, whose successors may be several.
    scored, members = np.unique(np.concatenate(tokens), return_inverse=True)
    completions = np.repeat(np.arange(len(tokens)), [len(places) for places in tokens])
    return {
        "tree": tree,
        "input_ids": torch.from_numpy(tree.ids)[None],
        "position_ids": torch.from_numpy(tree.positions)[None],
        "sources": torch.from_numpy(tree.parents[scored]),
        "targets": torch.from_numpy(tree.ids[scored]),
        "members": torch.from_numpy(members),
        "completions": torch.from_numpy(completions),
        "prompts": torch.tensor(prompts),
        "work": Work(len(tree.ids), len(scored), tree.attended),
    }


def on_device(packed: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """The packed sequence with its tensors on `device`."""
    return {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in packed.items()}
