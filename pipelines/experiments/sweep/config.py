"""The section `sweep` of a config."""

from __future__ import annotations

from pydantic import Field

from pipelines.core.yaml_model import Strict


class SweepConfig(Strict):
    """Trainings that are compared (§2.4): every combination of the three; `train` says all else."""

    learning_rate: list[float] = Field([5.5e-8, 1e-7, 7e-7], min_length=1)
    """Values of `train.learning_rate`."""
    alpha: list[float] = Field([0.5, 1.0], min_length=1)
    """Values of `train.alpha`."""
    weight_decay: list[float] = Field([0.01, 0.1], min_length=1)
    """Values of `train.weight_decay`."""
    concurrent: int = Field(1, ge=1)
    """Trainings at once."""
    asha: bool = False
    """Stop trainings that judge the held-out pairs worse than most others did at the same step."""
