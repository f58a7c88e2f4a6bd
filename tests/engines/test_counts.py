"""What models have done for the rows of a batch."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from pipelines.core import job_metrics
from pipelines.curation.config import CritiqueConfig
from pipelines.curation.consistency import ConsistencyCheck
from pipelines.engines import counts
from pipelines.engines.llm.constrained import ConstrainedJudge
from pipelines.engines.llm.judge import Judge
from pipelines.engines.llm.steps import PromptStep
from pipelines.evaluation.asking.critique_check import CritiqueCheck
from pipelines.judge_job.both_orders import BothOrders
from pipelines.judging.parse import Status
from tests.counted import Counted


def test_the_list_knows_every_way_a_verdict_is_read() -> None:
    assert get_args(Status) == job_metrics.PARSED


def test_rewards_by_outcome_and_their_mean(counted: Counted) -> None:
    scored: dict[str, Any] = {"status": "ok", "rewards": [0.5, -1.5]}
    counts.rewards([scored, {"status": "ok", "rewards": [4.0]}, {"status": "error:reward:not_finite"}])
    assert counted.of(job_metrics.SCORES, outcome="scored") == 2
    assert counted.of(job_metrics.SCORES, outcome="failed") == 1
    assert counted.of(job_metrics.REWARD) == pytest.approx(1.0)


def test_no_reward_is_no_mean(counted: Counted) -> None:
    counts.rewards([{"status": "error:reward:not_finite"}])
    counts.rewards([])
    assert counted.calls == 1


def test_a_checked_row_counts_both_critiques(counted: Counted) -> None:
    rows = [
        {"chosen_consistent": True, "rejected_consistent": False},
        {"chosen_consistent": True, "rejected_consistent": True},
        {"status": "filtered:empty_chosen_critique"},  # never asked about
    ]
    ConsistencyCheck(CritiqueConfig(), 1).count(rows)
    found = {
        (critique, consistent): counted.of(job_metrics.CHECKS, critique=critique, consistent=consistent)
        for critique in ("chosen", "rejected")
        for consistent in ("true", "false")
    }
    assert found == {
        ("chosen", "true"): 2,
        ("chosen", "false"): 0,
        ("rejected", "true"): 1,
        ("rejected", "false"): 1,
    }


def test_the_check_of_a_judge_s_critiques_counts_apart(counted: Counted) -> None:
    CritiqueCheck("prompted", 1).count([{"consistent": False}, {"consistent": None}, {}])
    assert counted.of(job_metrics.CHECKS, critique="judge", consistent="false") == 1
    assert counted.all(job_metrics.CHECKS) == 1


@pytest.mark.parametrize("step", [Judge(8), ConstrainedJudge(8), BothOrders(Judge(8), True)])
def test_judgments_count_by_how_they_were_read(step: PromptStep, counted: Counted) -> None:
    statuses = ["ok", "ok", "completed", "no_verdict", "of another parser"]
    step.count([*({"parse_status": status} for status in statuses), {"status": "filtered:too_long"}])
    assert counted.of(job_metrics.JUDGMENTS, parse_status="ok") == 2
    assert counted.of(job_metrics.JUDGMENTS, parse_status="no_verdict") == 1
    assert counted.of(job_metrics.JUDGMENTS, parse_status="other") == 1
    assert counted.all(job_metrics.JUDGMENTS) == 5
