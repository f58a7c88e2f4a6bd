"""A stop at the first NaN or infinity, on all ranks at the same step."""

from __future__ import annotations

import math
from typing import Any

from pipelines.training.sharded import ShardedTrainer


class Diverged(Exception):
    """Loss or gradient is no longer a finite number."""


class FiniteTrainer(ShardedTrainer):
    """Stops when the gradient norm is not finite: one optimizer step later no weight would be.

    Norms stay on the device until something is logged or saved, so that no step waits for the one before; what is
    saved was checked.
    """

    _norms: tuple[tuple[int, Any], ...] = ()  # step and norm, not looked at yet

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is not None:
            self._norms = (*self._norms, (self.state.global_step + 1, norm))
        return norm

    def settle(self) -> None:
        """Look at what the steps since the last time left on the device.

        Raises:
            Diverged: the gradient of one of them is no longer a number.
        """
        norms, self._norms = self._norms, ()
        for step, norm in norms:
            if not math.isfinite(float(norm)):
                raise Diverged(f"the gradient norm became {float(norm)} at step {step}")

    def log(self, *args: Any, **kwargs: Any) -> None:
        """Check, then log."""
        self.settle()
        super().log(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self.settle()
        super()._save_checkpoint(*args, **kwargs)
