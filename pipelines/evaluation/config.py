"""The section `evaluation` of a config: the benchmarks, the judges and what they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from pipelines.core.yaml_model import OPERATIONAL, Strict
from pipelines.engines.config import EngineConfig
from pipelines.engines.endpoint_config import EndpointConfig, read_models


class CritiqueCheckConfig(Strict):
    """A prompted checker that reads the judges' critiques: does each support its verdict?"""

    engine: EngineConfig = EngineConfig()
    mode: Literal["prompted", "blind"] = "prompted"
    """As `curation.critique.check_mode`."""
    rows: int = Field(3000, ge=1)
    """Most judgments checked per model, chosen by hash; the paper checked 3,000."""
    probe_share: float = Field(1.0, gt=0, le=1)
    """Share of them on which the checker itself is tested too."""


class EvaluationConfig(Strict):
    """The benchmarks, and how they are judged and scored."""

    benchmarks: list[str]
    """Names of packaged benchmarks, or paths of YAML files of your own."""
    models: dict[str, str | EndpointConfig] = Field(default_factory=dict)
    """Name -> model, or the keys of an OpenAI-compatible endpoint; empty means the base model as `base` and OUT/model
    as `trained`."""
    engine: EngineConfig = EngineConfig()
    sample: int | None = Field(None, ge=1)
    """Rows judged of each benchmark, chosen by hash; the report marks it as a sample. null means all."""
    whole: list[str] = Field(default_factory=list)
    """Benchmarks that are judged in full, whatever `sample` says."""
    format: Literal["cot", "judgment_only", "one_token"] = "cot"
    """What the judge is asked for: a critique and a judgment; the judgment alone; or, without any text, which allowed
    verdict its next token makes likeliest, which always gives one."""
    max_tokens: int = Field(512, ge=4)
    """Tokens of an answer."""
    rows_per_block: Annotated[int, OPERATIONAL] = Field(64, ge=1)
    """Rows of one block: what a kill may cost, and how finely the work is spread."""
    templates: dict[str, str] = Field(default_factory=dict)
    """Task -> template, or the path of a YAML file, in place of the benchmark's own."""
    formats: list[str] = Field(default_factory=list)
    """Prompt formats in which the pairs are asked again, to see how far results depend on the wording: original,
    markdown, json, prepair, simplified, brackets."""
    format_benchmarks: list[str] | None = None
    """Pairwise benchmarks that are asked in `formats`; null means all."""
    critique_check: CritiqueCheckConfig | None = None
    """Checks the judges' critiques; null leaves that out."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Level of the confidence intervals."""

    def sample_of(self, benchmark: str) -> int | None:
        """Rows judged of one benchmark; None for all."""
        return None if benchmark in self.whole else self.sample

    @field_validator("models", mode="before")
    @classmethod
    def _endpoints(cls, value: Any) -> Any:
        return read_models(value)

    @field_validator("templates")
    @classmethod
    def _absolute(cls, value: dict[str, str]) -> dict[str, str]:
        # Workers read a user's template too, and they run in other folders than the driver.
        own = {task: path for task, path in value.items() if path.endswith((".yaml", ".yml"))}
        return value | {task: str(Path(path).expanduser().absolute()) for task, path in own.items()}
