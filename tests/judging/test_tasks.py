"""The three tasks: what verdicts mean, which contradict each other, and what a closed set must be."""

from __future__ import annotations

import pytest

from pipelines.judging.tasks import ABSOLUTE, CLASSIFICATION, PAIRWISE, TASKS, Task

TIES = ["A", "B", "Tie"]
SCALE = ["1", "2", "3", "4", "5"]


def test_a_task_is_found_by_the_name_that_records_use() -> None:
    assert TASKS == {"pairwise": PAIRWISE, "absolute": ABSOLUTE, "classification": CLASSIFICATION}
    assert {name: task.name for name, task in TASKS.items()} == {name: name for name in TASKS}


def test_only_pairs_have_two_responses_that_may_change_places() -> None:
    assert [(task.responses, task.ordered) for task in TASKS.values()] == [(2, True), (1, False), (1, False)]
    assert [PAIRWISE.opposite(verdict) for verdict in TIES] == ["B", "A", "Tie"]
    for unknown in ("tie", "model_a", "1", ""):
        with pytest.raises(ValueError, match="is not A, B or Tie"):
            PAIRWISE.opposite(unknown)
    assert [ABSOLUTE.opposite("2"), CLASSIFICATION.opposite("Yes")] == ["2", "Yes"]


@pytest.mark.parametrize(
    ("task", "verdict", "allowed", "expected"),
    [
        (PAIRWISE, "A", TIES, ["B"]),
        (PAIRWISE, "B", ["A", "B"], ["A"]),
        (PAIRWISE, "Tie", TIES, ["A", "B"]),
        (ABSOLUTE, "1", SCALE, ["3", "4", "5"]),
        (ABSOLUTE, "3", SCALE, ["1", "5"]),
        (ABSOLUTE, "2", ["1", "2", "3"], []),
        (CLASSIFICATION, "Yes", ["Yes", "No", "Unclear"], ["No", "Unclear"]),
    ],
)
def test_verdicts_that_contradict_one(task: Task, verdict: str, allowed: list[str], expected: list[str]) -> None:
    assert task.rejectable(verdict, allowed) == expected


@pytest.mark.parametrize(
    ("task", "verdict", "allowed", "expected"),
    [
        (PAIRWISE, "A", TIES, [0]),
        (PAIRWISE, "B", TIES, [1]),
        (PAIRWISE, "Tie", TIES, [0, 1]),
        (ABSOLUTE, "4", SCALE, [0]),
        (ABSOLUTE, "3", SCALE, []),  # the middle of the scale
        (ABSOLUTE, "1", SCALE, []),
        (CLASSIFICATION, "Yes", ["Yes", "No"], []),
    ],
)
def test_responses_that_a_verdict_endorses(task: Task, verdict: str, allowed: list[str], expected: list[int]) -> None:
    assert task.endorsed(verdict, allowed) == expected
    assert task.endorses or not expected


@pytest.mark.parametrize(
    ("task", "allowed", "fits"),
    [
        (PAIRWISE, ["A", "B"], True),
        (PAIRWISE, TIES, True),
        (PAIRWISE, ["A", "Tie"], False),
        (PAIRWISE, ["A", "B", "C"], False),
        (ABSOLUTE, SCALE, True),
        (ABSOLUTE, ["1", "2.5"], False),
        (CLASSIFICATION, ["anything", "else"], True),
    ],
)
def test_closed_sets_that_suit_a_task(task: Task, allowed: list[str], fits: bool) -> None:
    assert (task.problem_of_verdicts(allowed) is None) == fits


@pytest.mark.parametrize(
    ("task", "gold", "allowed", "problem"),
    [
        (PAIRWISE, "A", ["A", "B"], None),
        (PAIRWISE, "Tie", ["A", "B"], "gold_not_allowed"),
        (CLASSIFICATION, "Maybe", ["Yes", "No"], "gold_not_allowed"),
        (ABSOLUTE, "2.5", SCALE, None),  # a mean of raters
        (ABSOLUTE, "5", SCALE, None),
        (ABSOLUTE, "5.1", SCALE, "gold_not_on_the_scale"),
        (ABSOLUTE, "nan", SCALE, "gold_not_on_the_scale"),
        (ABSOLUTE, "good", SCALE, "gold_not_a_number"),
    ],
)
def test_verdicts_that_a_judge_can_be_measured_by(
    task: Task, gold: str, allowed: list[str], problem: str | None
) -> None:
    assert task.problem_of_gold(gold, allowed) == problem
