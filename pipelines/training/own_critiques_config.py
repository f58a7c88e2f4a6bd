"""The section `train.own_critiques` of a config: what recipe `rs_sft` samples from the judge itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.core.yaml_model import OPERATIONAL, Strict
from pipelines.engines.config import EngineConfig

Recipe = Literal["dpo_nll", "rs_sft"]


class OwnCritiquesConfig(Strict):
    """Rejection sampling, for `train.recipe: rs_sft`: the judge's own critiques that come to the right verdict."""

    samples: int = Field(4, ge=1)
    """Most answers asked for of a row; once `keep` of them are right, no further one is asked for."""
    keep: int = Field(1, ge=1)
    """Right answers of a row that are trained on."""
    temperature: float = Field(0.8, gt=0, le=2)
    """Of the sampling."""
    top_p: float = Field(0.95, gt=0, le=1)
    """Nucleus of the sampling."""
    max_tokens: int = Field(512, ge=4)
    """Tokens of an answer; one that does not end by then is not kept."""
    rounds: int = Field(1, ge=1)
    """The first round asks the model that training starts from, each further one the model of the round before."""
    start: Literal["base", "last"] = "base"
    """What each further round trains: `train.model` again, or the model of the round before."""
    rows_per_block: Annotated[int, OPERATIONAL] = Field(64, ge=1)
    """Rows of one block: what a kill may cost."""
    engine: EngineConfig = EngineConfig()
    """The engines that are asked; their `model` is the round's."""
