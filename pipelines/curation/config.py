"""The section `curation` of a config: sources and what is done to them (Figure 2)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipelines.core.yaml_model import OPERATIONAL, Location, Strict
from pipelines.engines.config import EngineConfig, RewardModelConfig
from pipelines.judging.tasks import TASKS


class NearDuplicatesConfig(Strict):
    """Rows that nearly repeat an earlier one."""

    enabled: bool = True
    """Filter them."""
    ngram: int = Field(5, ge=1)
    """Words of a shingle."""
    threshold: float = Field(0.9, gt=0, le=1)
    """Least Jaccard similarity of the shingles of two rows with the same label, in every part: instruction, context,
    reference, rubric and each response."""


class DecontaminateConfig(Strict):
    """Rows that overlap with a benchmark: one of `evaluation.benchmarks`, or a packaged one with local files."""

    enabled: bool = True
    """Filter them."""
    ngram: int = Field(8, ge=2)
    """Least words of a run that counts as shared."""
    coverage: float = Field(0.5, ge=0, le=1)
    """Share of the shorter text's words, a row's or a benchmark's, in shared runs from which on they overlap."""
    long_run: int = Field(20, ge=2)
    """Words of a shared run from which on two texts overlap, however long they are."""


class CleanConfig(Strict):
    """What cleaning filters (§2.1)."""

    min_year: int | None = Field(2023, ge=1900, le=2200)
    """Rows published earlier, or in a year unknown, are filtered; null keeps them."""
    scripts: list[str] = Field(["Latin", "Greek"])
    """Unicode scripts whose letters a row may use."""
    max_other_letters: int = Field(0, ge=0)
    """Letters of other scripts a row may have."""
    max_chars: int = Field(40_000, ge=1)
    """Characters of all of a row's texts together."""
    excluded_splits: list[str] = Field(["test"])
    """Rows of these splits are filtered."""
    conflicts: Literal["keep", "drop", "majority"] = "keep"
    """Rows with the same content and contradicting labels, such as several annotators' [ours: the paper does not say]:
    `keep` only counts them; `drop` filters them all; `majority` keeps those with the label of most rows."""
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()


class Quantile(Strict):
    """A threshold as a share of a source's scored rows: 0.25 filters the lowest quarter."""

    quantile: float = Field(gt=0, lt=1)
    """Share that is filtered."""


class RewardConfig(RewardModelConfig):
    """The reward model, and the sources that are filtered by it (§2.3, Appendix C)."""

    enabled: bool = True
    """Score the responses."""
    thresholds: dict[str, float | Quantile] = Field(default_factory=dict)
    """Source -> least score that stays, as a value or as {quantile: share}.
    A source that is not named is scored, not filtered."""

    @property
    def scorer(self) -> RewardModelConfig:
        """The model alone: scores do not depend on what is filtered by them."""
        return RewardModelConfig(**{name: getattr(self, name) for name in RewardModelConfig.model_fields})


class CritiqueConfig(Strict):
    """Synthetic critiques (§2.2) and the consistency check (§2.3)."""

    engine: EngineConfig = EngineConfig()
    template: str = "critique"
    """Prompt template: `critique` asks for a paragraph, `critique_compact` for a sentence; or the path of your own."""
    max_tokens: int = Field(256, ge=8)
    """Tokens of a critique, with the thoughts of a generator that thinks."""
    temperature: float = Field(0.0, ge=0)
    """Sampling temperature; 0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling: share of the probability that is sampled from."""
    attempts: int = Field(1, ge=1)
    """Chosen critiques written for a row before it is filtered as inconsistent."""
    retry_temperature: float = Field(0.7, gt=0)
    """Temperature of the second and later attempts: a greedy one would repeat the first."""
    check_mode: Literal["prompted", "blind"] = "prompted"
    """`prompted` shows the checker critique and verdict and asks whether they agree; `blind` hides the verdict and asks
    which one the critique supports."""
    drop_inconsistent_chosen: bool = True
    """Filter rows whose chosen critique does not support its verdict."""
    drop_inconsistent_rejected: bool = False
    """Filter rows whose rejected critique does not support its verdict."""
    probe_share: float = Field(0.1, ge=0, le=1)
    """Share of rows, by hash, that test the checker itself with a wrong and a right pair."""


_ORIGINAL = {task.name: task.template for task in TASKS.values()}


class MixConfig(Strict):
    """The training mixture (§2)."""

    cot_share: float = Field(0.7, ge=0, le=1)
    """Share of rows, by hash, trained with the critique; the others with the judgment alone."""
    max_tokens: int = Field(2048, ge=16)
    """Tokens of prompt and the longer completion together; a longer row is quarantined, never cut."""
    templates: dict[str, str | list[str]] = Field(default_factory=lambda: dict[str, str | list[str]](_ORIGINAL))
    """Task or source -> template, or several to choose from by the row's hash. A source's own comes first; tasks that
    are not named keep their own."""
    caps: dict[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """Source -> most rows, chosen by hash before any critique is written."""
    tokenizer: str = "embedded"
    """Whose tokens are counted: the model that will be trained."""

    @field_validator("templates")
    @classmethod
    def _with_originals(cls, value: dict[str, str | list[str]]) -> dict[str, str | list[str]]:
        return {**_ORIGINAL, **value}


class CurationConfig(Strict):
    """Sources and what is done to them (Figure 2)."""

    sources: list[str] = Field(default_factory=list)
    """Names of the packaged source files, or paths of YAML files of your own."""
    sample_per_source: int | None = Field(None, ge=1)
    """Rows of each source, chosen by hash; null means all."""
    mixture: Location | None = None
    """A mixture file, as `openselene ablate` writes it: which sources are in, and how each is filtered; null trains on
    all. Sources that are out leave as `filtered:excluded_by_mixture`."""
    rows_per_block: Annotated[int, OPERATIONAL] = Field(64, ge=1)
    """Rows of one block: what a kill may cost, and how finely the work is spread."""
    clean: CleanConfig = CleanConfig()
    reward: RewardConfig = RewardConfig()
    critique: CritiqueConfig = CritiqueConfig()
    mix: MixConfig = MixConfig()
