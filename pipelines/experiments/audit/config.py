"""The section `audit` of a config."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.core.yaml_model import OPERATIONAL, Location, Strict
from pipelines.engines.config import EngineConfig


class AuditConfig(Strict):
    """The critiques of curated pairs: what they say beside the verdict, by measures, a blind checker and people."""

    rows: int = Field(300, ge=1)
    """Pairs with critiques that are measured, by hash, at most."""
    people: int = Field(40, ge=1)
    """Of them are shown to people, by hash: all annotators see the same ones, each in another order."""
    blind: bool = True
    """Ask a checker that does not see the verdict which one each critique argues for."""
    engine: EngineConfig = EngineConfig()
    """Of the checker."""
    rows_per_block: Annotated[int, OPERATIONAL] = Field(32, ge=1)
    """Rows of one block: what a kill may cost."""
    answers: Annotated[Location | None, OPERATIONAL] = None
    """The database file of people's answers, on a local disk; null means OUT/experiments/audit/answers.sqlite."""
    gains: dict[str, float] = Field(default_factory=dict)
    """Source -> what training on it gained, to be correlated with the measures; empty takes `gains_from`."""
    gains_from: str = "ablation"
    """The experiment of this run whose figures named `gains_named` say so."""
    gains_named: str = "mean gain, alone"
    """Part of the name of those figures; of several of a source, the mean counts."""
    host: Annotated[str, OPERATIONAL] = "127.0.0.1"
    """Address of the page for people (`openselene annotate`); another than this machine's own needs a key."""
    port: Annotated[int, OPERATIONAL] = Field(8020, ge=0, le=65535)
    """Port of that page; 0 takes a free one."""
