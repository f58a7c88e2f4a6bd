"""Plan a run before paying for it: rows, tokens, device-hours, wall time and cost of every stage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipelines.core.config import Config, load_config
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.yaml_model import Strict, parse_model, read_yaml
from pipelines.experiments.measured import rows_like, seconds_of

CONSTANTS = Path(__file__).parent / "configs" / "plan.yaml"


class Rows(Strict):
    """What rows are like."""

    per_source: float
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
    """Everything the plan is computed from, beside the config."""

    rows: Rows
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
class Stage:
    """One line of the plan.

    Attributes:
        rows: that go through.
        tokens: computed or written.
        devices: at work side by side.
        seconds: of wall time.
        dollars: of all devices.
    """

    name: str
    rows: float
    tokens: float
    devices: float
    seconds: float
    dollars: float


def estimate(config: Config, constants: Constants, curation: str, training: str, evaluation_rows: int) -> list[Stage]:
    """The stages of the main job, each as if it ran alone.

    Args:
        config: of the run.
        constants: rows, devices and models.
        curation: device of the reward model, the generator and the judge.
        training: device of the trainer.
        evaluation_rows: judgments of each of the two models.

    Raises:
        UserError: a device or a model is not known.
    """
    for name in (curation, training):
        if name not in constants.devices:
            raise UserError(f"no device '{name}'", where="--device", fix=f"known: {', '.join(constants.devices)}")
    rows, near, far = constants.rows, constants.devices[curation], constants.devices[training]
    read = float(sum(source_rows(config, name, rows) for name in config.curation.sources))
    kept = read * rows.kept
    pair_tokens = rows.prompt_tokens + 2 * rows.critique_tokens
    stages = [Stage("clean and mix", read, 0, 1, read / constants.cpu_rows_per_second, 0)]

    def add(name: str, n: float, tokens: float, devices: float, busy: float, device: Device) -> None:
        seconds = busy / devices + device.startup_seconds
        stages.append(Stage(name, n, tokens, devices, seconds, seconds / 3600 * devices * device.dollars_per_hour))

    reward = config.curation.reward
    if reward.enabled:
        # The user's text once, each response once: about as long as the judge's prompt.
        tokens = read * rows.prompt_tokens
        busy = 2 * constants.size(reward.model) * tokens / (near.peak_tflops * 1e12 * near.prefill_mfu)
        add("reward", read, tokens, reward.actors[1] * max(reward.num_gpus, 1), busy, near)

    critique = config.curation.critique
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

    train, size = config.train, constants.size(config.train.model)
    speed = far.peak_tflops * 1e12 * far.training_mfu
    tokens = kept * pair_tokens
    if train.engine == "trl":  # the prompt twice, and once more each for the reference in the loop
        tokens = kept * 2 * (rows.prompt_tokens + rows.critique_tokens)
    add("reference", kept, tokens, train.workers, 2 * size * tokens / speed, far)
    passes = 8 if train.gradient_checkpointing else 6
    add("train", kept, tokens * train.epochs, train.workers, passes * size * tokens * train.epochs / speed, far)

    engine = config.evaluation.engine
    gpus = max(engine.num_gpus, 1)
    prefill, written = evaluation_rows * rows.prompt_tokens, evaluation_rows * rows.critique_tokens
    for name in ("judge base", "judge trained"):
        busy = generate(size, prefill, written, engine.max_num_seqs, gpus, near) * gpus
        add(name, evaluation_rows, prefill + written, engine.engines[1] * gpus, busy, near)
    return stages


def generate(size: float, prefill: float, written: float, batch: int, gpus: int, device: Device) -> float:
    """Seconds of one engine: prompts at the device's arithmetic, answers at its memory's pace.

    A decoding step reads all weights (2 bytes each) once and writes one token for each sequence of the batch.
    """
    prompt = 2 * size * prefill / (gpus * device.peak_tflops * 1e12 * device.prefill_mfu)
    step = 2 * size / (gpus * device.bandwidth_tb * 1e12)
    return prompt + written / batch * step / device.decode_efficiency


def source_rows(config: Config, name: str, rows: Rows) -> float:
    """Rows of a source that are read: its sample, or what is assumed, at most its cap."""
    count = config.curation.sample_per_source or rows.per_source
    return min(count, config.curation.mix.caps.get(name, count))


def show(stages: list[Stage], console: Console, measured: dict[str, float] | None = None) -> None:
    """The plan as a table; beside it the seconds that a run of the same config took."""
    table = Table(title="Estimate, each stage alone; every constant is in ray_jobs/configs/plan.yaml")
    columns = ["stage", "rows", "tokens", "devices", "hours", "device-hours", "cost"]
    for column in [*columns, *(["estimated s", "measured s"] if measured else [])]:
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in [*stages, total(stages)]:
        hours = stage.seconds / 3600
        took = (measured or {}).get(stage.name)
        compared = [f"{stage.seconds:,.0f}", f"{took:,.0f}" if took is not None else ""] if measured else []
        table.add_row(
            stage.name,
            f"{stage.rows:,.0f}" if stage.rows else "",
            f"{stage.tokens:,.0f}" if stage.tokens else "",
            f"{stage.devices:g}" if stage.devices else "",
            f"{hours:,.2f}",
            f"{hours * stage.devices:,.1f}" if stage.devices else "",
            f"${stage.dollars:,.0f}",
            *compared,
        )
    console.print(table)


def total(stages: list[Stage]) -> Stage:
    """All stages, one after the other."""
    return Stage("whole", 0, 0, 0, sum(s.seconds for s in stages), sum(s.dollars for s in stages))


def main(
    config: Annotated[Path, typer.Option(help="YAML config of the run.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value, in place of the config's.")] = None,
    constants: Annotated[Path, typer.Option(help="What to compute with.")] = CONSTANTS,
    curation: Annotated[str, typer.Option(help="Device of reward model, generator and judge.")] = "l40s",
    training: Annotated[str, typer.Option(help="Device of the trainer.")] = "h100",
    judgments: Annotated[int, typer.Option(help="Judgments of each of the two models.")] = 20_000,
    like: Annotated[Path | None, typer.Option(help="Take what rows are like from this finished run's folder.")] = None,
    check: Annotated[bool, typer.Option(help="With --like: plan that run itself, and show what it took.")] = False,
) -> None:
    """Plan a run before paying for it: rows, tokens, device-hours, wall time and cost of every stage."""
    try:
        known = parse_model(Constants, _mapping(constants), where=str(constants))
        settings = load_config(config, overrides)
        if check and like is None:
            raise UserError("--check compares with a finished run", fix="name it: --check --like OUT")
        if like is not None:
            rows = rows_like(like)
            # Rows of a source are the small run's own; a larger one reads what its config or plan.yaml says.
            kept = rows if check else {**rows, "per_source": known.rows.per_source}
            known = known.model_copy(update={"rows": Rows(**kept)})
        stages = estimate(settings, known, curation, training, judgments)
    except UserError as mistake:
        say(f"error: {mistake}")
        raise typer.Exit(2) from None
    show(stages, Console(width=140), seconds_of(like) if like and check else None)


def _mapping(path: Path) -> dict[str, Any]:
    raw = read_yaml(path)
    if not isinstance(raw, dict):
        raise UserError("not a mapping of keys", where=str(path))
    return raw


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    app()
