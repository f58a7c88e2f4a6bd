"""The estimate as a table in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from pipelines.experiments.estimate.estimate import StageCost, total


def show(stages: list[StageCost], console: Console, measured: dict[str, float] | None = None) -> None:
    """Print the estimate as a table, next to the seconds that a run of the same config took."""
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
