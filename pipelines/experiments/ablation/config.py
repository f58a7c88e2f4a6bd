"""The section `ablation` of a config: which sources help, and which rows of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipelines.core.yaml_model import Strict
from pipelines.curation.scores import known

Quantile = Annotated[float, Field(gt=0, lt=1)]


class RuleConfig(Strict):
    """How gains become decisions; it is part of every record."""

    by: Literal["mean", "pairwise", "absolute", "classification"] = "mean"
    """The gain that decides: of one task's held-out sets, accuracy or Pearson's r; or the mean over the tasks."""
    evidence: Literal["alone", "left_out"] = "alone"
    """`alone`: trained on the source alone, against the base model. `left_out`: trained on all sources, against all but
    this one. The other is shown beside it."""
    least: float = Field(0.0, ge=0)
    """A gain must be above this, or a loss below its negative, by more than chance."""
    error: float = Field(0.05, gt=0, lt=1)
    """Chance of one false decision among all sources (Holm 1979)."""
    undecided: Literal["include", "exclude"] = "include"
    """What the mixture file says of a source of which neither can be said."""


class FilterConfig(Strict):
    """Rows of a source that a score filters, against a random subset of equal size (Figure 6)."""

    enabled: bool = True
    """Try the filter."""
    score: str = "reward"
    """reward, objective_N, margin, length or consistency; see `curation.mixture`. A source without it is not
    filtered."""
    scores: dict[str, str] = Field(default_factory=dict)
    """Source -> its own score."""
    drop: Literal["lowest", "highest"] = "lowest"
    """Which end leaves."""
    quantiles: list[Quantile] = Field([0.25, 0.5], min_length=1)
    """Shares that leave, each tried."""
    sources: list[str] | None = None
    """Sources that are tried; null tries all that have the score."""

    @field_validator("score")
    @classmethod
    def _known(cls, score: str) -> str:
        return known(score)

    @field_validator("scores")
    @classmethod
    def _all_known(cls, scores: dict[str, str]) -> dict[str, str]:
        return {source: known(score) for source, score in scores.items()}


class AblationConfig(Strict):
    """Single-source ablation and reward filter (§2.3, Figure 6), from which the mixture follows."""

    left_out: bool = True
    """Also train on all sources, and on all but each."""
    mixture_pairs: int = Field(128, ge=2)
    """Pairs of a training on several sources, in equal parts; fewer where all but one source have fewer rows."""
    rule: RuleConfig = RuleConfig()
    filter: FilterConfig = FilterConfig()
    check_seeds: int = Field(0, ge=0)
    """Runs of the whole rule on planted sources with a stand-in judge, which count its wrong decisions; 0: none."""
