"""Scores by which rows are filtered: whose reward counts, what has none, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.core.errors import RowFailure, UserError
from pipelines.curation.scores import known, needs_reward, reads_of, require_score, score_of

PAIR: dict[str, Any] = {
    "task": "pairwise",
    "allowed": ["A", "B", "Tie"],
    "verdict": "B",
    "responses": ["four", "sixsix"],
    "rewards": [0.2, 0.7],
    "reward_objectives": [[1.0, 2.0], [3.0, 4.0]],
    "chosen_consistent": True,
    "rejected_consistent": False,
}


@pytest.mark.parametrize(
    ("verdict", "score", "expected"),
    [
        ("B", "reward", 0.7),
        ("A", "reward", 0.2),
        ("B", "margin", 0.5),
        ("A", "margin", -0.5),
        ("Tie", "margin", -0.5),
        ("B", "objective_1", 4.0),
        ("Tie", "objective_0", 2.0),
        ("A", "length", 5.0),
        ("A", "consistency", 1.0),
    ],
)
def test_a_score_follows_from_row_and_label(verdict: str, score: str, expected: float) -> None:
    assert score_of({**PAIR, "verdict": verdict}, score) == pytest.approx(expected)
    assert set(reads_of(score)) <= PAIR.keys()


def test_a_label_that_endorses_nothing_has_no_reward() -> None:
    row = {**PAIR, "task": "classification", "allowed": ["Yes", "No"], "verdict": "Yes", "responses": ["x"]}
    assert score_of(row, "reward") is None and score_of(row, "objective_0") is None and score_of(row, "length") == 1


@pytest.mark.parametrize(
    ("change", "score", "reason"),
    [
        ({"rewards": None}, "margin", "no_rewards"),
        ({"reward_objectives": None}, "objective_0", "no_rewards"),
        ({}, "objective_2", "no_such_objective:2"),
        ({"chosen_consistent": None}, "consistency", "no_consistency"),
    ],
)
def test_a_row_without_it_is_an_error_row(change: dict[str, Any], score: str, reason: str) -> None:
    with pytest.raises(RowFailure, match=reason):
        score_of({**PAIR, **change}, score)


@pytest.mark.parametrize(
    ("score", "task", "words"),
    [
        ("margin", "absolute", "one response, and no margin"),
        ("reward", "classification", "endorses no response"),
        ("objective_3", "classification", "endorses no response"),
    ],
)
def test_a_score_that_does_not_suit_is_refused(score: str, task: str, words: str) -> None:
    with pytest.raises(UserError, match=f"here: .*{words}"):
        require_score(score, task, "here")


@pytest.mark.parametrize("score", ["rewards", "objective_x", "objective_", "Length", ""])
def test_a_name_that_is_no_score_is_refused(score: str) -> None:
    with pytest.raises(ValueError, match=f"no score '{score}'; known: reward, objective_N, "):
        known(score)


def test_what_needs_a_reward_model() -> None:
    assert [one for one in ("reward", "margin", "objective_0", "length", "consistency") if needs_reward(one)] == [
        "reward",
        "margin",
        "objective_0",
    ]
