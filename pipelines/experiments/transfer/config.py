"""The section `transfer` of a config: domains and prompt formats in which base and trained judge are compared."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipelines.core.yaml_model import Strict

Format = Literal["original", "compact", "markdown", "json", "prepair", "simplified", "brackets"]

DOMAINS = {
    "medicine": ["craft_md"],
    "finance": ["financebench"],
    "summaries": ["instrusum", "llm_aggrefact: AggreFact-*"],
    "dialogue": ["hhh_alignment", "mt_bench: roleplay", "auto_j: chitchat"],
    "code": ["reward_bench: hep-*", "mt_bench: coding"],
    "mathematics": ["mt_bench: math", "auto_j: math_reasoning"],
}
"""Domain -> benchmarks, or parts of them: `benchmark: pattern of its subsets`."""


class TransferConfig(Strict):
    """Judges compared by domain and prompt format, by the probabilities of their verdicts without critiques."""

    domains: dict[str, list[str]] = Field(default_factory=lambda: dict(DOMAINS), min_length=1)
    """Domain -> benchmarks, each as a name, or as `name: pattern` for the subsets that match, with * and ?."""
    formats: list[Format] = Field(["original", "compact", "markdown", "brackets"], min_length=1)
    """`original` and `compact` are for all tasks, the others for pairs."""
    sample: int | None = Field(60, ge=8)
    """Rows of a domain's each benchmark, chosen by hash; null takes all."""
    max_tokens: int = Field(2048, ge=16)
    """Tokens of a prompt; a row that is longer in some format is left out of all."""
    models: dict[str, str] = Field(default_factory=dict)
    """Name -> model; the first is what the others are compared with. Empty means the base model as `base` and OUT/model
    as `trained`."""
    error: float = Field(0.05, gt=0, lt=1)
    """Chance of one false claim among all cells (Holm 1979)."""
