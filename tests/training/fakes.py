"""A judge with given log-probabilities and a trainer without a model, for arithmetic that a person can follow."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from pipelines.training.config import TrainConfig
from pipelines.training.scoring import Scores

Pair = dict[str, Any]


def pair(number: int, chosen: float, rejected: float, **more: Any) -> Pair:
    """A pair of which the judge gives the two completions these log-probabilities; six tokens, the first its number."""
    values = {"row_id": f"r{number}", "prompt_ids": [number, 0, 0], "chosen_ids": [1, 1], "rejected_ids": [2]}
    return {
        **values,
        "ref_chosen_logp": -3.0,
        "ref_rejected_logp": -3.0,
        "alone": False,
        "logps": (chosen, rejected),
        **more,
    }


class Judge:
    """Looks a pair's log-probabilities up, and notes how many tokens each forward pass had."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.logps = {pair["prompt_ids"][0]: pair["logps"] for pair in pairs}
        self.config = SimpleNamespace()  # of no known shape
        self.tokens: list[int] = []
        self.autocast: list[bool] = []

    def eval(self) -> Judge:
        return self

    def train(self) -> Judge:
        return self

    def __call__(self, packed: dict[str, Any]) -> Scores:
        numbers = [int(packed["tree"].ids[path[0]]) for path in packed["tree"].paths[::2]]
        self.tokens.append(packed["input_ids"].numel())
        self.autocast.append(torch.is_autocast_enabled("cpu"))
        log_probs = torch.tensor([value for number in numbers for value in self.logps[number]], requires_grad=True)
        lengths = torch.bincount(packed["completions"]).float()
        return Scores(log_probs, lengths, torch.tensor(0.5), torch.tensor(0.25))


class Accelerator:
    """What a trainer asks of accelerate, on one rank of several; `reduce` is handed what this rank has."""

    def __init__(self, workers: int = 1, rank: int = 0) -> None:
        self.num_processes, self.process_index = workers, rank
        self.backwards: list[float] = []
        self.synced: list[Any] = []
        self.reduced: list[torch.Tensor] = []
        self.gradient_state = SimpleNamespace(_set_sync_gradients=self.synced.append)

    def backward(self, loss: torch.Tensor) -> None:
        self.backwards.append(loss.item())

    def no_sync(self, model: Any) -> contextlib.AbstractContextManager[None]:
        self.synced.append("no_sync")
        return contextlib.nullcontext()

    def reduce(self, sums: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        self.reduced.append(sums)
        return sums


def trainer_of(kind: type, pairs: Sequence[Pair], accelerator: Accelerator | None = None, **config: Any) -> Any:
    """A trainer of a class of ours that has been told everything but its libraries' own affairs."""
    trainer = object.__new__(kind)
    trainer.config = TrainConfig.model_validate({"beta": 0.5, "bin_tokens": 16, **config})
    trainer.accelerator = accelerator or Accelerator()
    trainer.args = SimpleNamespace(device=torch.device("cpu"))
    trainer.state = SimpleNamespace(global_step=6)
    trainer.model = Judge(pairs)
    trainer.is_fsdp_enabled = config.get("strategy") == "fsdp"
    trainer.compute_loss_context_manager = contextlib.nullcontext
    return trainer
