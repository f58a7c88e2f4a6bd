"""Scores by which rows of a source may be filtered: the reward, and what can stand in its place."""

from __future__ import annotations

import re

from pipelines.core.errors import RowFailure, UserError
from pipelines.core.records import Row
from pipelines.curation.threshold import endorsed_reward
from pipelines.judging.tasks import TASKS

OBJECTIVE = re.compile(r"objective_(\d+)")
READS = {
    "reward": ("rewards",),
    "margin": ("rewards",),
    "length": (),
    "consistency": ("chosen_consistent", "rejected_consistent"),
}
REWARDED = ("reward", "margin")
AFTER_CRITIQUES = ("consistency",)
KNOWN = "reward, objective_N, margin, length, consistency"


def reads_of(score: str) -> tuple[str, ...]:
    """The columns that a score is made from, beside those of a label."""
    return ("reward_objectives",) if OBJECTIVE.fullmatch(score) else READS[score]


def known(score: str) -> str:
    """The name of a score, if it is one.

    Raises:
        ValueError: it is none, naming those that are known.
    """
    if score not in READS and not OBJECTIVE.fullmatch(score):
        raise ValueError(f"no score '{score}'; known: {KNOWN}, N from 0 for the reward model's own")
    return score


def require_score(score: str, task: str, where: str) -> None:
    """Refuse a score that no row of a task has.

    Raises:
        UserError: saying why, and what to take.
    """
    if score == "margin" and not TASKS[task].ordered:
        raise UserError(f"a {task} row has one response, and no margin", where=where, fix="take another score")
    if needs_reward(score) and not TASKS[task].endorses:
        fix = "take length or consistency"
        raise UserError(f"a {task} label endorses no response, so there is no {score}", where=where, fix=fix)


def needs_reward(score: str) -> bool:
    """Whether a reward model must have scored the rows."""
    return score in REWARDED or bool(OBJECTIVE.fullmatch(score))


def score_of(row: Row, score: str) -> float | None:
    """A row's score, or None where it has none; a row without one is never filtered by it.

    - reward: of the response that the label endorses (`threshold.endorsed_reward`).
    - objective_N: the same of one objective of the reward model, by its number.
    - margin: reward of the preferred response minus that of the other; of a tie minus the distance of both. Below 0 the
      reward model contradicts the label.
    - length: characters of a response, the mean of several.
    - consistency: which of the two critiques support their verdict: 0, 1 or 2.

    Raises:
        RowFailure: what it is made from is not there.
    """
    if score == "reward":
        return endorsed_reward(row)
    if score == "length":
        return sum(len(text or "") for text in row["responses"]) / len(row["responses"])
    if score == "consistency":
        found = [row.get(name) for name in READS[score]]
        if None in found:
            raise RowFailure("no_consistency")
        return float(sum(map(bool, found)))
    if score == "margin":
        return _margin(row)
    return _objective(row, int(score.rpartition("_")[2]))


def _margin(row: Row) -> float:
    rewards = row.get("rewards")
    if not rewards:
        raise RowFailure("no_rewards")
    first, second = rewards
    sign = {"A": 1.0, "B": -1.0}.get(row["verdict"])
    return -abs(first - second) if sign is None else sign * (first - second)


def _objective(row: Row, number: int) -> float | None:
    objectives = row.get("reward_objectives")
    if not objectives:
        raise RowFailure("no_rewards")
    if number >= len(objectives[0]):
        raise RowFailure("no_such_objective", str(number))
    places = TASKS[row["task"]].endorsed(row["verdict"], row["allowed"])
    found = [objectives[place][number] for place in places]
    return float(sum(found) / len(found)) if found else None
