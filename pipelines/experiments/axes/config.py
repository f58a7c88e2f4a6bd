"""The section `axes` of a config: settings of training and mixture that are varied."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.core.yaml_model import Strict

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class AxesConfig(Strict):
    """Trials on critiqued pairs of all sources, each of which differs from the config's own settings in one value."""

    pairs: int = Field(128, ge=2)
    """Pairs of one trial, of all sources together."""
    grid: bool = False
    """Also every combination of the learning rates, alphas and weight decays of `sweep` (§2.4)."""
    learning_rate: list[Positive] = Field(default_factory=list)
    """Values of `train.learning_rate`."""
    alpha: list[Annotated[float, Field(ge=0)]] = Field(default_factory=list)
    """Values of `train.alpha`."""
    weight_decay: list[Annotated[float, Field(ge=0)]] = Field(default_factory=list)
    """Values of `train.weight_decay`."""
    beta: list[Positive] = Field([0.05, 0.5])
    """Values of `train.beta`."""
    nll: list[Literal["sequence", "sequence_with_prompt", "token"]] = Field(["sequence_with_prompt", "token"])
    """Values of `train.nll`."""
    cot_share: list[Share] = Field([0.0, 1.0])
    """Values of `curation.mix.cot_share`; a row has the same critiques in all."""
    drop_inconsistent_rejected: list[bool] = Field([True])
    """Values of `curation.critique.drop_inconsistent_rejected`; as many pairs are taken of the rows that are left."""
    error: float = Field(0.05, gt=0, lt=1)
    """Chance of one false claim among all settings (Holm 1979)."""
