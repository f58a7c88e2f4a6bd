"""The section `recipes` of a config."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.core.yaml_model import Strict
from pipelines.training.own_critiques_config import Recipe


class RecipesConfig(Strict):
    """Recipes that are compared on equally many tokens; `train` says all else."""

    names: list[Recipe] = Field(["dpo_nll", "rs_sft"], min_length=1)
    """Values of `train.recipe`. The later ones are compared with the first, and all with the base model."""
    tokens: int | None = Field(None, ge=1)
    """Tokens of prompts and completions that each recipe trains on, each once an epoch; null takes those of the recipe
    that has the fewest. Rows of the others are left out by hash."""
    learning_rate: dict[Recipe, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Recipe -> its `train.learning_rate`, where it is another: one rate need not suit two losses."""
