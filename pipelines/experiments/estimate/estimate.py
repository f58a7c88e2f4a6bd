"""Rows, tokens, device-hours, time and cost of every stage of a run, before paying for it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from pipelines.core.errors import UserError
from pipelines.core.yaml_model import Strict
from pipelines.curation.config import CurationConfig, Quantile
from pipelines.curation.registry import load_sources
from pipelines.evaluation.config import EvaluationConfig
from pipelines.training.config import TrainConfig


class RowSizes(Strict):
    """What rows are like."""

    per_source: float
    sources: dict[str, float] = Field(default_factory=dict)
    prompt_tokens: float
    response_tokens: float
    critique_tokens: float
    kept: float


class Device(Strict):
    """What one device does."""

    peak_tflops: float
    bandwidth_tb: float
    training_mfu: float
    prefill_mfu: float
    decode_efficiency: float
    startup_seconds: float
    dollars_per_hour: float


class Constants(Strict):
    """Everything the estimate is computed from, besides the config."""

    rows: RowSizes
    prompt_tail_tokens: float
    cpu_rows_per_second: float
    parameters: dict[str, float]
    devices: dict[str, Device]

    def size(self, model: str) -> float:
        """Parameters of a model.

        Raises:
            UserError: they are not known.
        """
        if model not in self.parameters:
            raise UserError(f"how many parameters has '{model}'?", where="parameters", fix="add it to plan.yaml")
        return self.parameters[model]


@dataclass(frozen=True)
class StageCost:
    """One line of the estimate.

    Attributes:
        rows: that go through.
        tokens: computed or written.
        devices: working in parallel.
        seconds: of wall time.
        dollars: of all devices.
    """

    name: str
    rows: float
    tokens: float
    devices: float
    seconds: float
    dollars: float


@dataclass(frozen=True)
class Devices:
    """What runs on which device, and how much there is to judge.

    Attributes:
        curation: device of the reward model, the generator and the judge.
        training: device of the trainer.
        judgments: of each of the two models.
    """

    curation: str
    training: str
    judgments: int


def estimate(
    curation: CurationConfig, train: TrainConfig, evaluation: EvaluationConfig, constants: Constants, on: Devices
) -> list[StageCost]:
    """The stages of the main job, each as if it ran alone.

    Args:
        curation: how rows become pairs.
        train: how the judge is trained.
        evaluation: how both models are asked.
        constants: rows, devices and models.
        on: the devices, and how many judgments each model makes.

    Raises:
        UserError: a device or a model is not known, or the recipe's cost.
    """
    if train.recipe != "dpo_nll":
        raise UserError("only the cost of dpo_nll is known", where="train.recipe", fix="estimate that one")
    for option, name in (("--curation", on.curation), ("--training", on.training)):
        if name not in constants.devices:
            raise UserError(f"no device '{name}'", where=option, fix=f"known: {', '.join(constants.devices)}")
    rows, near, far = constants.rows, constants.devices[on.curation], constants.devices[on.training]
    names = [source.name for source in load_sources(curation.sources)]
    read = sum(source_rows(curation, name, rows) for name in names)
    kept = sum(kept_rows(curation, name, rows) for name in names)
    pair_tokens = rows.prompt_tokens + 2 * rows.critique_tokens
    stages = [StageCost("clean and mix", read, 0, 1, read / constants.cpu_rows_per_second, 0)]

    def add(name: str, n: float, tokens: float, devices: float, busy: float, device: Device) -> None:
        seconds = busy / devices + device.startup_seconds
        stages.append(StageCost(name, n, tokens, devices, seconds, seconds / 3600 * devices * device.dollars_per_hour))

    reward = curation.reward
    if reward.enabled:
        # The user's text once, each response once: together about as long as the judge's prompt.
        tokens = read * rows.prompt_tokens
        busy = 2 * constants.size(reward.model) * tokens / (near.peak_tflops * 1e12 * near.prefill_mfu)
        add("reward", read, tokens, reward.actors[1] * max(reward.num_gpus, 1), busy, near)

    critique = curation.critique
    prompts = 4 + 2 * critique.probe_share
    prefill = kept * (rows.prompt_tokens + prompts * constants.prompt_tail_tokens + 2 * rows.critique_tokens)
    written = kept * (2 * min(rows.critique_tokens, critique.max_tokens) + 2 * (prompts - 2))
    size, gpus = constants.size(critique.engine.model), max(critique.engine.num_gpus, 1)
    add(
        "synthesize",
        kept,
        prefill + written,
        critique.engine.engines[1] * gpus,
        generate(size, prefill, written, critique.engine.max_num_seqs, gpus, near) * gpus,
        near,
    )

    size = constants.size(train.model)
    speed = far.peak_tflops * 1e12 * far.training_mfu
    tokens = kept * pair_tokens
    if train.engine == "trl":  # the prompt twice, and once more each for the reference in the loop
        tokens = kept * 2 * (rows.prompt_tokens + rows.critique_tokens)
    add("reference", kept, tokens, train.workers, 2 * size * tokens / speed, far)
    passes = 8 if train.gradient_checkpointing else 6
    add("train", kept, tokens * train.epochs, train.workers, passes * size * tokens * train.epochs / speed, far)

    engine = evaluation.engine
    gpus = max(engine.num_gpus, 1)
    prefill, written = on.judgments * rows.prompt_tokens, on.judgments * rows.critique_tokens
    for name in ("judge base", "judge trained"):
        busy = generate(size, prefill, written, engine.max_num_seqs, gpus, near) * gpus
        add(name, on.judgments, prefill + written, engine.engines[1] * gpus, busy, near)
    return stages


def generate(size: float, prefill: float, written: float, batch: int, gpus: int, device: Device) -> float:
    """Seconds of one engine: prompts at the device's arithmetic, answers at its memory's pace.

    A decoding step reads all weights (2 bytes each) once and writes one token for each sequence of the batch.
    """
    prompt = 2 * size * prefill / (gpus * device.peak_tflops * 1e12 * device.prefill_mfu)
    step = 2 * size / (gpus * device.bandwidth_tb * 1e12)
    return prompt + written / batch * step / device.decode_efficiency


def source_rows(curation: CurationConfig, name: str, rows: RowSizes) -> float:
    """Rows of a source that are read: all it is said to have, or a sample of them."""
    has = rows.sources.get(name, rows.per_source)
    return min(has, curation.sample_per_source or has)


def kept_rows(curation: CurationConfig, name: str, rows: RowSizes) -> float:
    """Rows of a source that the generator is asked about: those that stay, less a quantile's share, at most its cap.

    In the order of the job: cleaning, threshold, cap. What a threshold that is a value filters is not known before.
    """
    least = curation.reward.thresholds.get(name)
    share = least.quantile if isinstance(least, Quantile) else 0.0
    count = source_rows(curation, name, rows) * rows.kept * (1 - share)
    return min(count, curation.mix.caps.get(name, count))


def total(stages: list[StageCost]) -> StageCost:
    """All stages, one after the other."""
    return StageCost("whole", 0, 0, 0, sum(s.seconds for s in stages), sum(s.dollars for s in stages))
