"""Reward thresholds: the score of the response that the label endorses decides, and only in named sources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import UserError
from pipelines.core.records import EXAMPLE, SCORED
from pipelines.core.stage import apply_stages
from pipelines.curation.config import Quantile, RewardConfig
from pipelines.curation.threshold import RewardThreshold, check_thresholds, endorsed_reward

ONE_TO_FIVE = ["1", "2", "3", "4", "5"]


def row(task: str, verdict: str, rewards: list[float] | None, allowed: list[str], **keys: Any) -> dict[str, Any]:
    blank = {"source": "s", "status": "ok", "task": task, "allowed": allowed}
    return {**blank, "verdict": verdict, "rewards": rewards, **keys}


@pytest.mark.parametrize(
    ("task", "verdict", "rewards", "allowed", "expected"),
    [
        ("pairwise", "A", [0.9, 0.1], ["A", "B"], 0.9),
        ("pairwise", "B", [0.9, 0.1], ["A", "B"], 0.1),
        ("pairwise", "Tie", [0.9, 0.1], ["A", "B", "Tie"], 0.5),
        ("absolute", "4", [0.2], ONE_TO_FIVE, 0.2),
        ("absolute", "3", [0.2], ONE_TO_FIVE, None),
        ("absolute", "1", [0.2], ONE_TO_FIVE, None),
        ("absolute", "5", [0.2], [str(n) for n in range(1, 8)], 0.2),
        ("absolute", "4", [0.2], [str(n) for n in range(1, 8)], None),
        ("classification", "Yes", [0.2], ["Yes", "No"], None),
        ("classification", "No", [0.2], ["Yes", "No"], None),
    ],
)
def test_the_label_says_whose_reward_counts(
    task: str, verdict: str, rewards: list[float], allowed: list[str], expected: float | None
) -> None:
    assert endorsed_reward(row(task, verdict, rewards, allowed)) == expected


@pytest.mark.parametrize(("reward", "status"), [(0.3, "ok"), (0.29, "filtered:reward_below_threshold")])
def test_a_score_at_the_threshold_stays(reward: float, status: str) -> None:
    one = row("pairwise", "A", [reward, 0.9], ["A", "B"])
    apply_stages([RewardThreshold({"s": 0.3})], [one])
    assert one["status"] == status


def test_a_source_that_is_not_named_passes_scored_or_not() -> None:
    rows = [row("pairwise", "A", [-9.0, 0], ["A", "B"]), row("pairwise", "A", None, ["A", "B"])]
    apply_stages([RewardThreshold({"other": 0.3})], rows)
    assert [r["status"] for r in rows] == ["ok", "ok"]


def test_a_threshold_of_zero_is_a_threshold() -> None:
    one = row("pairwise", "A", [-0.1, 0.9], ["A", "B"])
    apply_stages([RewardThreshold({"s": 0.0})], [one])
    assert one["status"] == "filtered:reward_below_threshold"


def test_a_row_of_a_named_source_without_rewards_is_an_error_not_a_pass() -> None:
    one = row("pairwise", "A", None, ["A", "B"])
    apply_stages([RewardThreshold({"s": 0.3})], [one])
    assert one["status"] == "error:reward_threshold:no_rewards"


def test_the_config_is_checked_against_the_sources() -> None:
    tasks = {"pairs": "pairwise", "scores": "absolute", "labels": "classification"}
    check_thresholds({"pairs": 0.1, "scores": 0.2}, tasks)
    with pytest.raises(UserError, match=r"thresholds\.pair: no such source .*labels, pairs, scores"):
        check_thresholds({"pair": 0.1}, tasks)
    with pytest.raises(UserError, match="endorses no response"):
        check_thresholds({"labels": 0.1}, tasks)


def test_a_quantile_filters_that_share_of_the_scored_rows(tmp_path: Path) -> None:
    rows = [row("pairwise", "A", [n / 20, 0.0], ["A", "B"]) for n in range(20)]
    rows += [row("pairwise", "A", [-5.0, 0.0], ["A", "B"], source="other")]
    rows += [row("pairwise", "A", [-5.0, 0.0], ["A", "B"], status="filtered:year")]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema([*EXAMPLE, *SCORED])), tmp_path / "0.parquet")
    stage = RewardThreshold({"s": Quantile(quantile=0.25), "nobody": Quantile(quantile=0.5)})
    stage.open(tmp_path)
    apply_stages([stage], rows)
    assert [r["status"] for r in rows[:20]] == ["filtered:reward_below_threshold"] * 5 + ["ok"] * 15
    assert rows[20]["status"] == "ok"


def test_a_config_takes_values_and_quantiles() -> None:
    config = RewardConfig.model_validate({"thresholds": {"a": 0.3, "b": {"quantile": 0.2}}})
    assert config.thresholds == {"a": 0.3, "b": Quantile(quantile=0.2)}


def test_a_quantile_of_a_source_without_endorsed_scores_filters_nothing(tmp_path: Path) -> None:
    rows = [row("absolute", "1", [-3.0], ONE_TO_FIVE) for _ in range(3)]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema([*EXAMPLE, *SCORED])), tmp_path / "0.parquet")
    stage = RewardThreshold({"s": Quantile(quantile=0.5)})
    stage.open(tmp_path)
    apply_stages([stage], rows)
    assert {r["status"] for r in rows} == {"ok"}
