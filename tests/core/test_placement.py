"""Placement: from the config to the options that Ray is given, for every role."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.config import load_config
from pipelines.core.environment import check_filled, filled
from pipelines.core.errors import UserError
from pipelines.core.placement import Placement
from pipelines.engines.config import EngineConfig, RewardModelConfig
from pipelines.engines.llm.vllm_stage import PromptStage
from pipelines.engines.reward.stage import RewardStage
from pipelines.training.config import TrainConfig
from pipelines.training.reference import ReferenceScores

ROOT = Path(__file__).resolve().parents[2]
PLACED = Placement(accelerator_type="H100", labels={"openselene/role": "reward"})
OPTIONS = {"accelerator_type": "H100", "label_selector": {"openselene/role": "reward"}}


class Asked:
    """Stands for a dataset, and keeps what a stage asks of it."""

    def map_batches(self, *_: Any, **options: Any) -> Asked:
        self.options = options
        return self


STAGES = {
    "generator": lambda placement: PromptStage("synthesize", EngineConfig(placement=placement), []),
    "reward": lambda placement: RewardStage(RewardModelConfig(placement=placement)),
    "reference": lambda placement: ReferenceScores(TrainConfig(placement=placement), "folder"),
}


@pytest.mark.parametrize("name", sorted(STAGES))
def test_a_pool_asks_ray_for_its_placement_and_for_none_by_default(name: str) -> None:
    asked: Any = Asked()
    STAGES[name](PLACED).attach(asked, pa.schema([]))
    assert {key: asked.options[key] for key in OPTIONS} == OPTIONS
    STAGES[name](Placement()).attach(asked, pa.schema([]))
    assert not set(OPTIONS) & set(asked.options)


def test_placement_changes_no_result_and_so_locks_no_run() -> None:
    for model in (EngineConfig, RewardModelConfig, TrainConfig):
        assert model(placement=PLACED).identity() == model().identity()


def test_the_judge_service_is_placed_too() -> None:
    from serve.app import deployment

    engine = {"model": "org/judge", "num_gpus": 1, "placement": {"labels": {"openselene/role": "server"}}}
    options = deployment({"name": "judge", "engine": engine}).ray_actor_options
    assert options and options["label_selector"] == {"openselene/role": "server"} and options["num_gpus"] == 1


def test_local_configs_ask_for_no_placement() -> None:
    for name in ("local", "real_small"):
        config = load_config(ROOT / "ray_jobs" / "configs" / f"{name}.yaml")
        placed = (config.train, config.curation.reward, config.curation.critique.engine, config.evaluation.engine)
        assert config.ray.readers == {} and all(one.placement == Placement() for one in placed)


def test_a_variable_of_the_environment_is_filled_in_and_a_missing_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_STORE", "s3://bucket")
    monkeypatch.delenv("NO_STORE", raising=False)
    assert filled("${A_STORE}/x ${NO_STORE}") == "s3://bucket/x ${NO_STORE}"
    assert filled(None) is None
    check_filled("s3://bucket/x", "out_dir")
    with pytest.raises(UserError, match="out_dir: the environment variable NO_STORE is not set"):
        check_filled("${NO_STORE}/x", "out_dir")
