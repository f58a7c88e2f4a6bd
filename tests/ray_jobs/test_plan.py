"""The plan of a run: its arithmetic on numbers a person can follow, and what it says of mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipelines.core.config import Config, load_config
from pipelines.core.errors import UserError
from pipelines.core.yaml_model import parse_model, read_yaml
from ray_jobs import plan

CONFIGS = Path(__file__).parents[2] / "ray_jobs" / "configs"


def constants(**changes: Any) -> plan.Constants:
    return parse_model(plan.Constants, {**read_yaml(plan.CONSTANTS), **changes}, where="test")


def config(*overrides: str) -> Config:
    return load_config(CONFIGS / "h100.yaml", list(overrides))


def stages(settings: Config, known: plan.Constants | None = None) -> dict[str, plan.Stage]:
    return {s.name: s for s in plan.estimate(settings, known or constants(), "l40s", "h100", 1000)}


def test_training_is_six_flops_a_parameter_and_token() -> None:
    known = constants()
    found = stages(config("train.gradient_checkpointing=false"), known)["train"]
    rows, device = known.rows, known.devices["h100"]
    tokens = 16 * rows.per_source * rows.kept * (rows.prompt_tokens + 2 * rows.critique_tokens)
    busy = 6 * 8.03e9 * tokens / (device.peak_tflops * 1e12 * device.training_mfu * 8)
    assert found.tokens == pytest.approx(tokens)
    assert found.seconds == pytest.approx(busy + device.startup_seconds)
    assert found.dollars == pytest.approx(found.seconds / 3600 * 8 * device.dollars_per_hour)


def test_recomputing_activations_costs_a_third_more() -> None:
    startup = constants().devices["h100"].startup_seconds
    without, with_it = (
        stages(config(f"train.gradient_checkpointing={on}"))["train"].seconds - startup for on in ("false", "true")
    )
    assert with_it / without == pytest.approx(8 / 6)


def test_trl_computes_the_prompt_twice() -> None:
    shared = stages(config())["train"].tokens
    trl = stages(config("train.engine=trl", "train.nll=token", "train.micro_batch_size=1", "train.attention=sdpa"))
    assert trl["train"].tokens / shared == pytest.approx(2 * (1200 + 130) / (1200 + 260))


def test_samples_and_caps_bound_the_rows() -> None:
    known = constants()
    assert stages(config("curation.sample_per_source=10"), known)["clean and mix"].rows == 160
    capped = stages(config("curation.mix.caps={halueval: 6000}"), known)["clean and mix"].rows
    assert capped == 15 * 36000 + 6000


def test_without_a_reward_model_there_is_no_reward_stage() -> None:
    assert "reward" not in stages(config("curation.reward.enabled=false"))


def test_the_whole_is_the_sum() -> None:
    found = list(stages(config()).values())
    assert plan.total(found).seconds == pytest.approx(sum(s.seconds for s in found))


def test_what_is_not_known_is_one_line() -> None:
    with pytest.raises(UserError, match="no device 'tpu'"):
        plan.estimate(config(), constants(), "tpu", "h100", 1)
    with pytest.raises(UserError, match="how many parameters has 'org/other'"):
        stages(config("train.model=org/other"))


def test_the_command_prints_a_table_and_refuses_in_one_line() -> None:
    import typer

    app = typer.Typer()
    app.command()(plan.main)
    done = CliRunner().invoke(app, ["--config", str(CONFIGS / "h100.yaml")])
    assert done.exit_code == 0 and "synthesize" in done.output and "whole" in done.output
    assert CliRunner().invoke(app, ["--config", "none.yaml"]).exit_code == 2
