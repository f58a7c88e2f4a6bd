"""The section `trials` of a config: the small trainings that experiments compare."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pipelines.core.yaml_model import OPERATIONAL, Strict


class HeldOutConfig(Strict):
    """What every trial is judged on."""

    benchmarks: list[str] = Field(["llmbar", "lfqa", "biggen_bench", "infobench"], min_length=1)
    """Names of packaged benchmarks, or paths of YAML files. A mixture that is chosen by them should be reported on
    others: those of `evaluation.benchmarks`."""
    sample: int | None = Field(100, ge=8)
    """Rows of each that are not too long, chosen by hash; null takes all."""
    orders: Literal["one", "both"] = "one"
    """Pairs: each in one order by its hash, which for the same work judges twice as many; or in both."""
    max_tokens: int = Field(2048, ge=16)
    """Tokens of a prompt; longer ones are left out, and counted in the record."""
    templates: dict[str, str] = Field(default_factory=dict)
    """Task -> template, or the path of a YAML file, in place of `curation.mix.templates`."""


class TrialsConfig(Strict):
    """Trainings on a few judgments without critiques, each judged on the same held-out rows; `train` says all else."""

    judge: Literal["model", "stand_in"] = "model"
    """`stand_in` puts a linear model on a few features of the texts in the judge's place: seconds for hundreds of
    trials, to try a rule. Its figures say nothing of any language model, and every record says so."""
    pool: int = Field(256, ge=4)
    """Rows of each source, by hash, from which all trials take theirs."""
    pairs: int = Field(64, ge=2)
    """Pairs of one trial on one source."""
    seeds: list[int] = Field([0, 1, 2], min_length=2)
    """Each is another choice of pairs and another order. Intervals count what differs between them."""
    layers: int | None = Field(None, ge=1)
    """Topmost layers that trials train. What lies below is then the same in all of them, and is computed once for all:
    with 6 of 30 layers a trial takes about a fifth. null trains what `train` says, whole."""
    train: dict[str, Any] = Field(default_factory=dict)
    """Keys of `train` that trials have otherwise, such as `learning_rate` or `lora`."""
    heldout: HeldOutConfig = HeldOutConfig()
    concurrent: Annotated[int, OPERATIONAL] = Field(1, ge=1)
    """Trials at once, each in a process with `train.cpus_per_worker` and `train.gpus_per_worker`."""
