"""A stop at the first NaN or infinity, on all ranks at the same step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from transformers import Trainer


class Diverged(Exception):
    """Loss or gradient is no longer a finite number."""


class FiniteTrainer(Trainer):
    """Stops when the gradient norm is not finite: one optimizer step later no weight would be.

    Attributes:
        stored: where the checkpoint of a step is kept, if it was moved after writing.
    """

    stored: Callable[[int], str] | None = None

    def _load_best_model(self) -> None:
        if self.stored is not None:
            self.state.best_model_checkpoint = self.stored(self.state.best_global_step)
        super()._load_best_model()

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is not None and not math.isfinite(float(norm)):
            raise Diverged(f"the gradient norm became {float(norm)} at step {self.state.global_step + 1}")
        return norm
