"""The section `train` of a config: DPO+NLL (§2.4)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipelines.core.placement import Placement
from pipelines.core.yaml_model import OPERATIONAL, Location, Strict
from pipelines.training.kernels import Kernels
from pipelines.training.own_critiques_config import OwnCritiquesConfig, Recipe


class LoraConfig(Strict):
    """Low-rank adapters on frozen weights (arXiv 2106.09685), merged into the model that is written."""

    rank: int = Field(16, ge=1)
    """Rank of an adapter."""
    alpha: int = Field(32, ge=1)
    """The adapters' output is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on an adapter's input."""
    targets: str | list[str] = "all-linear"
    """Names of the layers that get one; `all-linear` is every linear layer but the head."""


class TrainConfig(Strict):
    """DPO+NLL (§2.4)."""

    model: str = "embedded"
    """`embedded`, a folder, or a hub id."""
    recipe: Recipe = "dpo_nll"
    """`dpo_nll` is the paper's loss on pairs. `rs_sft` (rejection-sampling SFT) keeps the judge's own critiques that
    come to the right verdict, and trains on them by the NLL alone; `alpha` and `beta` have no meaning then."""
    own_critiques: OwnCritiquesConfig = OwnCritiquesConfig()
    engine: Literal["shared", "trl"] = "shared"
    """`shared` computes what pairs begin with once; `trl` is TRL's own DPOTrainer: same loss, slower."""
    learning_rate: float = Field(1e-7, gt=0)
    """Peak of the schedule."""
    alpha: float = Field(1.0, ge=0)
    """Weight of the NLL of the chosen completion."""
    nll: Literal["sequence", "sequence_with_prompt", "token"] = "sequence"
    """What the NLL of a chosen completion is divided by: its own tokens; its own and the prompt's; the batch mean of
    chosen tokens. TRL supports only `token`, over a micro-batch."""
    beta: float = Field(0.1, gt=0)
    """DPO's beta: how closely the judge stays to the reference model."""
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    """Assumed share of pairs whose chosen and rejected are swapped."""
    weight_decay: float = Field(0.1, ge=0)
    """AdamW's."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the pairs."""
    batch_size: int = Field(32, ge=1)
    """Pairs of one optimizer step over all workers."""
    bin_tokens: int = Field(8192, ge=16)
    """Engine `shared`: distinct tokens of one forward pass; pairs of any length fill it without padding."""
    micro_batch_size: int = Field(4, ge=1)
    """Engine `trl`: pairs of one forward pass."""
    max_length: int = Field(2048, ge=16)
    """Tokens; a longer pair is refused before training, never truncated."""
    warmup_ratio: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises."""
    holdout: float = Field(0.0, ge=0, lt=1)
    """Engine `shared`: share of the instructions whose pairs are held out. They measure the accuracy of every
    checkpoint, and the best checkpoint becomes the model. 0 trains on all pairs and keeps the last checkpoint."""
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    """Shape of the learning rate after the warm-up."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    precision: Literal["auto", "float32", "bfloat16_autocast"] = "auto"
    """Of the forward passes; weights are float32 in all: a step at lr 1e-7 is below half a bfloat16 ulp. `auto` is
    bfloat16, or float32 on a CPU that would emulate it."""
    attention: Literal["split", "varlen", "flex", "mask", "sdpa", "eager", "flash_attention_2"] | None = None
    """Engine `shared`: `split` (any device; default on CPUs), `varlen` (PyTorch's kernel, GPUs in 16 bits; default
    there), `flex` (one compiled kernel; default on GPUs in float32) or `mask` (dense, slow, the reference). Engine
    `trl`: `sdpa` (default), `eager` (quicker on a CPU with short rows) or `flash_attention_2`."""
    workers: int = Field(1, ge=1)
    """Processes that train together."""
    min_workers: Annotated[int | None, OPERATIONAL] = Field(None, ge=1)
    """Elastic training: start with this many workers, and add more when the cluster has room. A step is the same with
    any number, up to rounding. Null waits for all."""
    cpus_per_worker: Annotated[float, OPERATIONAL] = Field(1.0, gt=0)
    """Logical CPUs of a worker."""
    gpus_per_worker: Annotated[float, OPERATIONAL] = Field(0, ge=0)
    """GPUs of a worker."""
    placement: Annotated[Placement, OPERATIONAL] = Placement()
    strategy: Literal["auto", "ddp", "fsdp", "deepspeed"] = "auto"
    """How workers share the training. `ddp`: each has all of the model. `fsdp`: each keeps a part of weights, gradients
    and optimizer in float32 and gathers the weights layer by layer (FSDP2). `deepspeed`: as `deepspeed` says. `auto` is
    deepspeed where that is set; else fsdp for engine `shared` on several GPUs without adapters; else ddp."""
    reshard_after_forward: Annotated[bool, OPERATIONAL] = True
    """Strategy `fsdp`: free a layer's gathered weights after its forward pass, and gather them again in the backward
    pass. False keeps them: one gathering less, and all weights on each device at `precision`."""
    deepspeed: dict[str, Any] | None = None
    """A DeepSpeed config; null trains without it."""
    lora: LoraConfig | None = None
    """Null trains all weights."""
    kernels: Annotated[Kernels, OPERATIONAL] = "auto"
    """Engine `shared`: `liger` puts Liger's norms, rotation and gated layer in place of the model's own; `auto` does so
    on GPUs where they are installed (extra `gpu`) and know the model. `onednn` has oneDNN compute linear layers, head
    and attention in float32 on a CPU; `auto` does so on CPUs with AVX-512, without DeepSpeed. `none` leaves the model
    as it is."""
    compile: Annotated[bool, OPERATIONAL] = False
    """Engine `shared`: compile the norms and the gated layer of each block, which fuses their element-wise operations.
    Takes a minute at the start and, on a CPU, a C++ compiler."""
    float8: bool = False
    """Engine `shared`: products of all linear layers but the head in 8 bits (torchao, extra `float8`). Quicker on an
    H100 or newer, and not the same: OUT/train/done.json says how far the scores of the first pairs move. Emulated on a
    CPU, for tests."""
    gradient_checkpointing: Annotated[bool, OPERATIONAL] = False
    """Compute activations again in the backward pass: less memory, about a third more work."""
    reference: Annotated[Location | None, OPERATIONAL] = None
    """Engine `shared`: folder of the reference's log-probabilities, computed once for all runs on the same pairs; null
    means OUT/curated/reference."""
    precompute_reference: bool = False
    """Engine `trl`: compute the reference's log-probabilities before the first step instead of in every step."""
    checkpoint_steps: Annotated[int, OPERATIONAL] = Field(50, ge=1)
    """Optimizer steps between checkpoints."""
    checkpoint_staging: Annotated[Path | None, OPERATIONAL] = None
    """Folder on a disk of each worker's machine, where its part of a checkpoint is until it has been copied to the run.
    Null is the system's folder for temporary files; it must hold two parts."""
    save_dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights of the model that is written. Training keeps float32."""
    max_failures: Annotated[int, OPERATIONAL] = Field(1, ge=0)
    """Restarts from the last checkpoint before the job fails."""
    logging_steps: Annotated[int, OPERATIONAL] = Field(1, ge=1)
    """Optimizer steps between lines of the log."""
    trackers: Annotated[list[Literal["tensorboard", "wandb", "mlflow"]], OPERATIONAL] = Field(["tensorboard"])
    """Where rank 0 also logs. TensorBoard files go to OUT/train/tensorboard; wandb and mlflow must be installed, and
    read environment variables of their own."""
    peak_tflops: Annotated[float | None, OPERATIONAL] = Field(None, gt=0)
    """Peak of a worker's device at `precision` (an H100: 989 in bfloat16), to log the share of it that is used."""
