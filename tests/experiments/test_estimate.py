"""The estimate of a run: its arithmetic on numbers a person can follow, and what it says of mistakes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Config, load_config
from pipelines.core.errors import UserError
from pipelines.core.yaml_model import parse_model, read_yaml
from pipelines.curation.registry import load_sources
from pipelines.experiments.estimate.estimate import (
    Constants,
    Device,
    Devices,
    StageCost,
    estimate,
    generate,
    kept_rows,
    total,
)

CONFIGS = Path(__file__).parents[2] / "ray_jobs" / "configs"
ON = Devices("l40s", "h100", 1000)


def constants(**changes: Any) -> Constants:
    known = read_yaml(CONFIGS / "plan.yaml")
    known["rows"].pop("sources")  # every source alike: sums that a person can follow
    return parse_model(Constants, {**known, **changes}, where="test")


def config(*overrides: str) -> Config:
    plain = ["curation.mix.caps={}", "curation.reward.thresholds={}"]
    return load_config(CONFIGS / "h100.yaml", [*plain, *overrides])


def stages(settings: Config, known: Constants | None = None, on: Devices = ON) -> dict[str, StageCost]:
    found = estimate(settings.curation, settings.train, settings.evaluation, known or constants(), on)
    return {stage.name: stage for stage in found}


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


def test_the_cost_of_sampling_is_not_guessed() -> None:
    with pytest.raises(UserError, match=r"train\.recipe: only the cost of dpo_nll is known"):
        stages(config("train.recipe=rs_sft"))


def test_trl_computes_the_prompt_twice() -> None:
    shared = stages(config())["train"].tokens
    trl = stages(config("train.engine=trl", "train.nll=token", "train.micro_batch_size=1", "train.attention=sdpa"))
    assert trl["train"].tokens / shared == pytest.approx(2 * (1200 + 130) / (1200 + 260))


def test_an_engine_reads_its_weights_once_a_step_by_hand() -> None:
    device = Device(
        peak_tflops=100,
        bandwidth_tb=2,
        training_mfu=1,
        prefill_mfu=0.5,
        decode_efficiency=0.25,
        startup_seconds=0,
        dollars_per_hour=0,
    )
    # Prompts: 2 × 1e9 × 1e6 FLOPs at 2 × 1e14 × 0.5. Answers: 1000 / 10 steps of 2e9 bytes at 2 × 2e12, at a quarter.
    assert generate(1e9, 1e6, 1000, 10, 2, device) == pytest.approx(2e15 / 1e14 + 100 * 2e9 / 4e12 / 0.25)


def test_each_of_four_prompts_and_two_probes_has_a_tail_of_its_own() -> None:
    known = constants()
    rows, kept = known.rows, 16 * known.rows.per_source * known.rows.kept
    tail = known.prompt_tail_tokens
    read = rows.prompt_tokens + 6 * tail + 2 * rows.critique_tokens
    written = 2 * rows.critique_tokens + 8  # two critiques, and a Yes or No of two tokens for each of four checks
    found = stages(config("curation.critique.probe_share=1"), known)["synthesize"]
    assert found.tokens == pytest.approx(kept * (read + written)) and found.devices == 16


def test_samples_and_caps_bound_the_rows() -> None:
    known = constants()
    assert stages(config("curation.sample_per_source=10"), known)["clean and mix"].rows == 160
    assert stages(config("curation.sample_per_source=10"), known)["reward"].rows == 160


def test_the_plan_counts_in_the_order_of_the_job_cleaning_threshold_cap() -> None:
    known = constants()
    rows = known.rows.per_source * known.rows.kept
    capped = stages(config("curation.mix.caps={halueval: 6000}"), known)
    assert capped["clean and mix"].rows == capped["reward"].rows == 16 * 36000  # a capped row is scored
    assert capped["synthesize"].rows == capped["train"].rows == pytest.approx(15 * rows + 6000)
    over = stages(config("curation.mix.caps={halueval: 10000000}"), known)
    assert over["synthesize"].rows == pytest.approx(16 * rows)
    quarter = config("curation.reward.thresholds={helpsteer: {quantile: 0.25}}")
    assert stages(quarter, known)["synthesize"].rows == pytest.approx(15.75 * rows)


def test_the_papers_run_has_577k_pairs_of_three_balanced_tasks() -> None:
    known = parse_model(Constants, read_yaml(CONFIGS / "plan.yaml"), where="test")
    curation = load_config(CONFIGS / "h100.yaml").curation
    rows = {source.name: kept_rows(curation, source.name, known.rows) for source in load_sources(curation.sources)}
    assert len(rows) == 16 and set(known.rows.sources) == set(rows)
    assert sum(rows.values()) == pytest.approx(577_000, rel=0.002)
    tasks: Counter[str] = Counter()
    for source in load_sources(curation.sources):
        tasks[source.task] += round(rows[source.name])
    assert all(0.3 < count / 577_000 < 0.36 for count in tasks.values())
    # No cap is idle, and none of the sets without one has more than the capped ones.
    caps = curation.mix.caps
    assert {name for name, count in rows.items() if count == max(rows.values())} == set(caps)
    assert curation.mix.cot_share == 0.7


def test_the_thresholds_are_those_of_the_four_largest_sets_that_may_have_one() -> None:
    known = parse_model(Constants, read_yaml(CONFIGS / "plan.yaml"), where="test")
    curation = load_config(CONFIGS / "h100.yaml").curation
    may = [source.name for source in load_sources(curation.sources) if source.task != "classification"]
    largest = sorted(may, key=lambda name: -known.rows.sources[name])[:4]
    assert set(curation.reward.thresholds) == set(largest)


def test_without_a_reward_model_there_is_no_reward_stage() -> None:
    assert stages(config())["reward"].devices == 8
    assert "reward" not in stages(config("curation.reward.enabled=false"))


def test_the_whole_is_the_sum() -> None:
    found = list(stages(config()).values())
    assert total(found).seconds == pytest.approx(sum(s.seconds for s in found))


def test_what_is_not_known_is_one_line() -> None:
    with pytest.raises(UserError, match="--curation: no device 'tpu'"):
        stages(config(), on=Devices("tpu", "h100", 1))
    with pytest.raises(UserError, match="--training: no device 'tpu'"):
        stages(config(), on=Devices("h100", "tpu", 1))
    with pytest.raises(UserError, match="how many parameters has 'org/other'"):
        stages(config("train.model=org/other"))
