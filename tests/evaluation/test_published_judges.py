"""The paper's tables: their averages follow from their figures."""

from __future__ import annotations

from typing import Literal

import pytest

from pipelines.evaluation.published_judges import MISPRINTS, averages, table, task_of
from pipelines.evaluation.registry import PAPER_BENCHMARKS


@pytest.mark.parametrize(("number", "rows"), [(1, 7), (3, 19)])
def test_the_printed_averages_follow_from_the_figures(number: Literal[1, 3], rows: int) -> None:
    assert len(table(number)) == rows
    whole = 0
    for judge in table(number):
        fixed = judge.values | {name: value for (model, name), value in MISPRINTS.items() if model == judge.model}
        found = averages(fixed)
        assert (found is None) == (judge.tasks is None) == (judge.benchmarks is None)
        if found:
            whole += 1
            assert found == (pytest.approx(judge.tasks, abs=6e-4), pytest.approx(judge.benchmarks, abs=6e-4)), judge
    assert whole == {1: 5, 3: 13}[number]


def test_the_misprint_is_one() -> None:
    (judge,) = (judge for judge in table(3) if judge.model == "Llama-3-OffsetBias-8B")
    assert judge.values["llm_aggrefact"] == 0.722
    found = averages(judge.values)
    assert found and judge.tasks and abs(found[0] - judge.tasks) < 1e-3


def test_what_the_tables_share_is_the_same() -> None:
    third = {judge.model: judge for judge in table(3)}
    for judge in table(1):
        assert third[judge.model].values == judge.values
    assert [judge.model for judge in table(1) if judge.dagger] == [
        "SFR-LLaMA-3.1-8B-Judge",
        "Prometheus-2-7B",
        "Patronus-GLIDER-3.8B",
        "FlowAI-Judge-3.8B",
    ]


def test_the_tasks_are_the_papers() -> None:
    assert [task_of(name) for name in PAPER_BENCHMARKS] == ["absolute"] * 3 + ["pairwise"] * 6 + ["classification"] * 2
