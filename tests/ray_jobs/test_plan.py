"""The command that estimates a run: a table, and one line for a mistake."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from ray_jobs import plan

CONFIGS = Path(__file__).parents[2] / "ray_jobs" / "configs"


def test_the_command_prints_a_table_and_refuses_in_one_line() -> None:
    done = CliRunner().invoke(plan.app, ["--config", str(CONFIGS / "h100.yaml")])
    assert done.exit_code == 0 and "synthesize" in done.output and "whole" in done.output
    refused = CliRunner().invoke(plan.app, ["--config", "none.yaml"])
    assert refused.exit_code == 2 and "none.yaml: no such file" in refused.output
