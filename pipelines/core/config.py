"""The config of every job: one YAML file, checked key by key, with `key.path=value` overrides."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator

from pipelines.core.endpoint import EndpointConfig, read_models
from pipelines.core.errors import UserError
from pipelines.core.yaml_model import Strict, parse_model, read_yaml


class RayConfig(Strict):
    """Where the job runs: a running cluster if there is one (RAY_ADDRESS, `ray job submit`), else a local one."""

    address: str | None = None
    num_cpus: int | None = Field(None, ge=1)
    """Logical CPUs of a local cluster that this job starts itself; null means the machine's own count."""
    object_store_memory_mb: int | None = Field(None, ge=80)
    dashboard: bool = True
    """Start the dashboard with a local cluster."""


class EngineConfig(Strict):
    """A pool of vLLM engines."""

    model: str = "embedded"
    """`embedded` (SmolLM2-135M-Instruct from its wheel), a folder, or a hub id."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "bfloat16"
    max_model_len: int = Field(2048, ge=64)
    """Tokens of prompt and answer together."""
    max_num_seqs: int = Field(32, ge=1)
    engines: tuple[int, int] = (1, 1)
    """Least and most engines in the pool; Ray Data scales between them."""
    num_cpus: float = Field(1.0, ge=0)
    num_gpus: int = Field(0, ge=0)
    """GPUs of one engine (tensor parallel)."""
    batch_size: int = Field(16, ge=1)
    """Rows handed to an engine at once."""
    concurrent_batches: int = Field(4, ge=1)
    """Blocks an engine works on at once, of each up to four batches; with many, none is done and written for long."""
    kv_cache_gb: int = Field(1, ge=1)
    """Key-value cache of a CPU engine, in GiB."""
    engine_args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of vLLM's AsyncEngineArgs, passed through."""

    @field_validator("engine_args")
    @classmethod
    def _no_remote_code(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("trust_remote_code"):
            raise ValueError("trust_remote_code is never allowed")
        return value


class NearDuplicatesConfig(Strict):
    """Rows that nearly repeat an earlier one."""

    enabled: bool = True
    ngram: int = Field(5, ge=1)
    """Words of a shingle."""
    threshold: float = Field(0.9, gt=0, le=1)
    """Least estimated Jaccard similarity of the shingles of two rows with the same label."""


class DecontaminateConfig(Strict):
    """Rows that overlap with a benchmark: those of `evaluation.benchmarks` and every packaged one at hand."""

    enabled: bool = True
    ngram: int = Field(8, ge=2)
    """Words of a run that a prompt may not share with a benchmark's."""


class CleanConfig(Strict):
    """What cleaning turns away (§2.1)."""

    min_year: int = 2023
    scripts: list[str] = Field(["Latin", "Greek"])
    max_other_letters: int = Field(0, ge=0)
    """Letters of other scripts a row may have."""
    max_chars: int = Field(40_000, ge=1)
    excluded_splits: list[str] = Field(["test"])
    near_duplicates: NearDuplicatesConfig = NearDuplicatesConfig()
    decontaminate: DecontaminateConfig = DecontaminateConfig()


class Quantile(Strict):
    """A threshold as a share of a source's scored rows: 0.25 turns the lowest quarter away."""

    quantile: float = Field(gt=0, lt=1)


class RewardConfig(Strict):
    """The reward model that scores responses, and the sources that are filtered by it (§2.3, Appendix C)."""

    enabled: bool = True
    kind: Literal["armorm", "sequence_classification"] = "armorm"
    model: str = "embedded"
    dtype: Literal["bfloat16", "float32"] = "float32"
    max_tokens: int = Field(1024, ge=16)
    batch_tokens: int = Field(4096, ge=16)
    """Padded tokens of one forward pass."""
    rows_per_batch: int = Field(64, ge=1)
    """Rows sorted by length before they are cut into forward passes."""
    actors: tuple[int, int] = (1, 1)
    num_cpus: float = Field(1.0, ge=0)
    num_gpus: float = Field(0, ge=0)
    thresholds: dict[str, float | Quantile] = Field(default_factory=dict)
    """Source -> least score that stays, as a value or as {quantile: share}.
    A source that is not named is scored, not filtered."""


class CritiqueConfig(Strict):
    """Synthetic critiques (§2.2) and the consistency check (§2.3)."""

    engine: EngineConfig = EngineConfig()
    max_tokens: int = Field(256, ge=8)
    temperature: float = Field(0.0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    attempts: int = Field(1, ge=1)
    """Chosen critiques written for a row before it leaves as inconsistent."""
    retry_temperature: float = Field(0.7, gt=0)
    """Of the second and later attempts: a greedy one would say the same again."""
    check_mode: Literal["prompted", "blind"] = "prompted"
    drop_inconsistent_chosen: bool = True
    drop_inconsistent_rejected: bool = False
    probe_share: float = Field(0.1, ge=0, le=1)
    """Share of rows, by hash, on which the checker itself is tested with a pair that is wrong and one that is right."""


_ORIGINAL = {task: f"{task}_original" for task in ("pairwise", "absolute", "classification")}


class MixConfig(Strict):
    """The training mixture (§2)."""

    cot_share: float = Field(0.7, ge=0, le=1)
    max_tokens: int = Field(2048, ge=16)
    """Tokens of prompt and the longer completion together; a longer row is quarantined, never cut."""
    templates: dict[str, str | list[str]] = Field(default_factory=lambda: dict[str, str | list[str]](_ORIGINAL))
    """Task or source -> template; of several, one by the row's hash. A source's own comes before its task's."""
    caps: dict[str, int] = Field(default_factory=dict)
    """Source -> most rows, chosen by hash."""
    tokenizer: str = "embedded"
    """Whose tokens are counted: the model that will be trained."""


class CurationConfig(Strict):
    """Sources and what is done to them (Figure 2)."""

    sources: list[str] = Field(default_factory=list)
    """Names of the packaged source files, or paths of YAML files of your own."""
    sample_per_source: int | None = Field(None, ge=1)
    """Rows of each source, chosen by hash; null means all."""
    rows_per_block: int = Field(64, ge=1)
    """Rows of one block: what a kill may cost, and how finely the work is spread."""
    clean: CleanConfig = CleanConfig()
    reward: RewardConfig = RewardConfig()
    critique: CritiqueConfig = CritiqueConfig()
    mix: MixConfig = MixConfig()


class LoraConfig(Strict):
    """Low-rank adapters beside frozen weights (arXiv 2106.09685); merged into the model that is written."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    """The adapters' output is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: str | list[str] = "all-linear"
    """Names of the layers that get one; `all-linear` is every linear layer but the head."""


class TrainConfig(Strict):
    """DPO+NLL (§2.4)."""

    model: str = "embedded"
    engine: Literal["shared", "trl"] = "shared"
    """`shared` computes the prompt of a pair once; `trl` is TRL's own DPOTrainer: the same loss, slower."""
    learning_rate: float = Field(1e-7, gt=0)
    alpha: float = Field(1.0, ge=0)
    """Weight of the NLL of the chosen completion."""
    nll: Literal["sequence", "sequence_with_prompt", "token"] = "sequence"
    """What the NLL of a chosen completion is divided by: its tokens; those and the prompt's; the mean of the batch.
    TRL knows `token` only, over a micro-batch."""
    beta: float = Field(0.1, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    weight_decay: float = Field(0.1, ge=0)
    epochs: float = Field(1.0, gt=0)
    batch_size: int = Field(32, ge=1)
    """Pairs of one optimizer step over all workers."""
    bin_tokens: int = Field(8192, ge=16)
    """Engine `shared`: tokens of one forward pass; pairs of any length fill it without padding."""
    micro_batch_size: int = Field(4, ge=1)
    """Engine `trl`: pairs of one forward pass."""
    max_length: int = Field(2048, ge=16)
    """Tokens; a pair that does not fit is refused before training, never cut."""
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    holdout: float = Field(0.0, ge=0, lt=1)
    """Engine `shared`: share of the instructions whose pairs are not trained on. At every checkpoint they tell the
    judge's accuracy, and the best checkpoint becomes the model; 0 trains on all pairs and takes the last."""
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    max_grad_norm: float = Field(1.0, gt=0)
    precision: Literal["float32", "bfloat16_autocast"] = "bfloat16_autocast"
    """Weights are float32 in both: a step at lr 1e-7 is below half a bfloat16 ulp."""
    attention: Literal["split", "flex", "mask", "sdpa", "eager", "flash_attention_2"] | None = None
    """Engine `shared`: `split` (default; any device), `flex` (one compiled kernel, GPUs) or `mask` (dense, slow, the
    reference). Engine `trl`: `sdpa` (default), `eager` (quicker on a CPU with short rows) or `flash_attention_2`."""
    workers: int = Field(1, ge=1)
    min_workers: int | None = Field(None, ge=1)
    """Elastic: train with as few while the cluster has no room for all, and take in more when it has. A step is the
    same with any number, but for rounding. Null waits for all."""
    cpus_per_worker: float = Field(1.0, gt=0)
    gpus_per_worker: float = Field(0, ge=0)
    deepspeed: dict[str, Any] | None = None
    """A DeepSpeed config; null trains without it."""
    lora: LoraConfig | None = None
    """Null trains all weights."""
    compile: bool = False
    """Engine `shared`: compile what a layer does beside attention, its norms and its gated layer, whose element by
    element operations are then fused. Takes a minute at the start, and on a CPU a C++ compiler."""
    gradient_checkpointing: bool = False
    reference: Path | None = None
    """Engine `shared`: folder of the reference's log-probabilities, computed once for all runs on the same pairs;
    null means `reference` beside the folder of the pairs."""
    precompute_reference: bool = False
    """Engine `trl`: compute them before the first step and not in each."""
    checkpoint_steps: int = Field(50, ge=1)
    max_failures: int = Field(1, ge=0)
    logging_steps: int = Field(1, ge=1)
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = Field(["tensorboard"])
    """Where rank 0 also logs to. TensorBoard files are OUT/train/tensorboard; wandb and mlflow must be installed, and
    read their own environment variables."""
    peak_tflops: float | None = Field(None, gt=0)
    """What a worker's device can do at `precision` (an H100: 989 in bfloat16), to log what share of it is used."""

    @field_validator("reference")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return value.expanduser().absolute() if value else value


class CritiqueCheckConfig(Strict):
    """A prompted checker on the judges' critiques: does each support its verdict?"""

    engine: EngineConfig = EngineConfig()
    mode: Literal["prompted", "blind"] = "prompted"
    rows: int = Field(3000, ge=1)
    """Most judgments of a model, by hash; the paper checked as many."""
    probe_share: float = Field(1.0, gt=0, le=1)
    """Share of them that also test the checker."""


class EvaluationConfig(Strict):
    """The benchmarks and how their judgments are made."""

    benchmarks: list[str]
    models: dict[str, str | EndpointConfig] = Field(default_factory=dict)
    """Name -> model, or the keys of an OpenAI-compatible endpoint; empty means the base model as `base` and OUT/model
    as `trained`."""
    engine: EngineConfig = EngineConfig()
    sample: int | None = Field(None, ge=1)
    """Rows of each benchmark, chosen by hash and marked as a sample; null means all."""
    whole: list[str] = Field(default_factory=list)
    """Benchmarks of which all rows are judged, whatever `sample` says."""
    format: Literal["cot", "judgment_only", "one_token"] = "cot"
    """What is asked for: a critique and a judgment; the judgment alone; or its one token, the likeliest of those
    allowed, which cannot go unread."""
    max_tokens: int = Field(512, ge=4)
    rows_per_block: int = Field(64, ge=1)
    templates: dict[str, str] = Field(default_factory=dict)
    """Task -> template, in place of the benchmark's own."""
    formats: list[str] = Field(default_factory=list)
    """Prompt formats the pairs are asked in again, to see what a judge owes to the wording: original, markdown, json,
    prepair, simplified, brackets."""
    format_benchmarks: list[str] | None = None
    """Pairwise benchmarks that are asked in them; null means all."""
    critique_check: CritiqueCheckConfig | None = None
    """Null checks no critiques."""
    confidence: float = Field(0.95, gt=0, lt=1)
    bootstrap: int = Field(2000, ge=100)

    def sample_of(self, benchmark: str) -> int | None:
        """Rows of one benchmark that are judged; None for all."""
        return None if benchmark in self.whole else self.sample

    @field_validator("models", mode="before")
    @classmethod
    def _endpoints(cls, value: Any) -> Any:
        return read_models(value)


class DataMapConfig(Strict):
    """The map of the curated set (Figure 4)."""

    rows: int = Field(20_000, ge=1)
    """Most rows drawn, chosen by hash; the rest is not on the map."""
    max_tokens: int = Field(256, ge=3, le=512)
    """Tokens of a row that are embedded; the model was trained on 256."""
    neighbours: int = Field(15, ge=2)
    """Rows a row is laid out beside: more show the large, fewer the small structure."""
    topics: int = Field(12, ge=1, le=20)
    """Most topics; a small set has fewer."""
    actors: tuple[int, int] = (1, 2)
    """Least and most copies of the embedding model, one CPU each."""
    rows_per_batch: int = Field(64, ge=1)
    rows_per_block: int = Field(256, ge=1)
    """Rows of one block: what a kill may cost, and how finely the work is spread."""


class SweepConfig(Strict):
    """Trainings that are compared (§2.4): every combination of the three; `train` says all else."""

    learning_rate: list[float] = Field([5.5e-8, 1e-7, 7e-7], min_length=1)
    alpha: list[float] = Field([0.5, 1.0], min_length=1)
    weight_decay: list[float] = Field([0.01, 0.1], min_length=1)
    concurrent: int = Field(1, ge=1)
    """Trainings at once."""
    asha: bool = False
    """Stop trainings that judge the held-out pairs worse than most others did at the same step."""


class Config(Strict):
    """Everything a run is made of."""

    out_dir: Path
    data_root: Path | None = None
    seed: int = 0
    max_error_share: float = Field(0.2, ge=0, le=1)
    """Share of a segment's rows that may end as errors before the job fails."""
    ray: RayConfig = RayConfig()
    curation: CurationConfig = CurationConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig
    data_map: DataMapConfig = DataMapConfig()
    sweep: SweepConfig = SweepConfig()

    @field_validator("out_dir", "data_root")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        # Workers run in other folders than the driver, and Ray's checkpoint takes absolute paths only.
        return value.expanduser().absolute() if value else value


def load_config(path: Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML config, apply `key.path=value` overrides and check every key.

    Raises:
        UserError: the file is missing or not YAML, a key is unknown, or a value has the wrong type.
    """
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError("the config is not a mapping of keys", where=str(path))
    for override in overrides or []:
        _apply(raw, override)
    if raw.get("data_root") is None and os.environ.get("OPENSELENE_DATA_ROOT"):
        raw["data_root"] = os.environ["OPENSELENE_DATA_ROOT"]
    return parse_model(Config, raw, where=str(path))


def choose_sources(config: Config, only: Sequence[str], skip: Sequence[str]) -> Config:
    """The config with fewer sources, in its own order.

    Raises:
        UserError: a name is not one of the config's sources, or none is left.
    """
    sources = config.curation.sources
    for flag, named in (("--only", only), ("--skip", skip)):
        for name in named:
            if name not in sources:
                near = difflib.get_close_matches(name, sources, n=1)
                fix = f"did you mean '{near[0]}'?" if near else f"they are: {', '.join(sources)}"
                raise UserError(f"'{name}' is not a source of this config", where=flag, fix=fix)
    left = [name for name in sources if (not only or name in only) and name not in skip]
    if sources and not left:
        raise UserError("no source is left", where="--only, --skip")
    return config.model_copy(update={"curation": config.curation.model_copy(update={"sources": left})})


def _apply(raw: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise UserError(f"'{override}' is not key.path=value", where="command line")
    node = raw
    *parents, last = key.split(".")
    for part in parents:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise UserError(f"'{key}': '{part}' is not a group of keys", where="command line")
        node = child
    try:
        node[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"'{override}': the value is not YAML", where="command line") from None
