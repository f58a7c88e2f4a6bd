"""A stop at the first NaN or infinity, on all ranks at the same step."""

from __future__ import annotations

import math
from typing import Any

from pipelines.training.sharded import ShardedTrainer


class Diverged(Exception):
    """Loss or gradient is no longer a finite number."""


class FiniteTrainer(ShardedTrainer):
    """Stops when the gradient norm is not finite: one optimizer step later no weight would be."""

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is not None and not math.isfinite(float(norm)):
            raise Diverged(f"the gradient norm became {float(norm)} at step {self.state.global_step + 1}")
        return norm
