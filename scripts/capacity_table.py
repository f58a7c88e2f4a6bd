"""Write docs/capacity.md: what the paper's run takes and costs, as `openselene plan --config h100` computes it.

python -m scripts.capacity_table            # write the file
python -m scripts.capacity_table --check    # write nothing, exit 1 when the file is out of date
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipelines.config import PACKAGED, load_config
from pipelines.core.yaml_model import read_model
from pipelines.experiments.estimate.estimate import Constants, Devices, StageCost, estimate, total
from scripts.generated_file import generate

OUTPUT = Path(__file__).resolve().parent.parent / "docs" / "capacity.md"
INTRODUCTION = """\
<!-- Written by scripts/capacity_table.py from ray_jobs/configs/plan.yaml (`make docs`). Do not edit by hand. -->
# Capacity and cost

What `openselene plan` computes for `h100.yaml` before a run, each stage alone. Every constant is in
`ray_jobs/configs/plan.yaml`, where it says whether it is measured or assumed; prices are assumed on-demand ones. No GPU
has run it yet, so these are estimates and not measurements.
"""
CHOICES: tuple[tuple[str, list[str]], ...] = (
    ("All sixteen sources, as the config has it", []),
    ("A first look: 1,000 rows of each source", ["curation.sample_per_source=1000", "curation.mix.caps={}"]),
    ("Half the generators", ["curation.critique.engine.engines=[1, 2]"]),
)
DEVICES = Devices("l40s", "h100", 20_000)


def page() -> str:
    """The whole file."""
    known = read_model(Constants, PACKAGED / "plan.yaml")
    parts = [INTRODUCTION]
    for title, overrides in CHOICES:
        config = load_config(PACKAGED / "h100.yaml", overrides)
        stages = estimate(config.curation, config.train, config.evaluation, known, DEVICES)
        command = " ".join(["openselene plan --config h100", *(f"'{one}'" for one in overrides)])
        parts.append(f"## {title}\n`{command}`\n\n{table(stages)}\n")
    return "\n".join(parts)


def table(stages: list[StageCost]) -> str:
    """The stages as a table, the whole last."""
    lines = ["| stage | rows | devices | hours | device-hours | cost |", "|---|---:|---:|---:|---:|---:|"]
    for stage in [*stages, total(stages)]:
        hours = stage.seconds / 3600
        lines.append(
            f"| {stage.name} | {number(stage.rows)} | {number(stage.devices)} | {hours:,.1f} "
            f"| {number(hours * stage.devices)} | ${stage.dollars:,.0f} |"
        )
    return "\n".join(lines)


def number(value: float) -> str:
    """A count; empty for none."""
    return f"{value:,.0f}" if value else ""


def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    return generate("Write docs/capacity.md.", page, OUTPUT, arguments)


if __name__ == "__main__":
    sys.exit(main())
