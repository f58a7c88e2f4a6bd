"""Estimate rows, tokens, device-hours, time and cost of a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.cli import ConfigOption, Overrides, application, exit_code
from pipelines.config import load_config
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.storage import place
from pipelines.core.yaml_model import read_model
from pipelines.curation.job import check_names
from pipelines.experiments.estimate.estimate import Constants, Devices, RowSizes, estimate
from pipelines.experiments.estimate.measured import rows_like, seconds_of
from pipelines.experiments.estimate.table import show

CONSTANTS = Path(__file__).parent / "configs" / "plan.yaml"


def main(
    config: ConfigOption,
    overrides: Overrides = None,
    constants: Annotated[Path, typer.Option(help="What to compute with.")] = CONSTANTS,
    curation: Annotated[str, typer.Option(help="Device of reward model, generator and judge.")] = "l40s",
    training: Annotated[str, typer.Option(help="Device of the trainer.")] = "h100",
    judgments: Annotated[int, typer.Option(help="Judgments of each of the two models.")] = 20_000,
    like: Annotated[str | None, typer.Option(help="Describe the rows as this finished run's folder does.")] = None,
    check: Annotated[bool, typer.Option(help="With --like: estimate that run, and show what it took.")] = False,
) -> None:
    """Read the options and print the table."""

    def work() -> None:
        known = read_model(Constants, constants)
        settings = load_config(config, overrides)
        check_names(settings.curation)
        if check and like is None:
            raise UserError("--check compares with a finished run", fix="name it: --check --like OUT")
        finished = Run(place(like)) if like else None
        if finished:
            rows = rows_like(finished)
            # Rows of a source are the small run's own; a larger one reads what its config or plan.yaml says.
            kept = rows if check else {**rows, "per_source": known.rows.per_source, "sources": known.rows.sources}
            known = known.model_copy(update={"rows": RowSizes(**kept)})
        devices = Devices(curation, training, judgments)
        stages = estimate(settings.curation, settings.train, settings.evaluation, known, devices)
        show(stages, Console(width=140), seconds_of(finished) if finished and check else None)

    sys.exit(exit_code(work))


app = application(main, __doc__)

if __name__ == "__main__":
    app()
