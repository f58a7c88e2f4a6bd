"""Bradley-Terry: known strengths, coverage of its intervals, other libraries, and votes that say little."""

from __future__ import annotations

import choix
import numpy as np
import pytest
import statsmodels.api as sm

from serve.arena.ratings import bradley_terry
from serve.arena.ratings.bradley_terry import fit
from serve.arena.ratings.vote import Choice, Vote
from tests.serve.arena.simulated import simulated

TRUE = {"ash": 1290.0, "birch": 1250.0, "cedar": 1220.0, "elm": 1190.0, "fir": 1150.0, "hazel": 1100.0}


def vote(place: int, a: str, b: str, choice: Choice = "a") -> Vote:
    return Vote(place, f"b{place}", a, b, choice)


def test_ten_thousand_votes_give_the_order_back() -> None:
    found = fit(simulated(TRUE, 10_000, seed=0, ties=0.1), list(TRUE)).strengths
    assert sorted(found, key=lambda name: -found[name].value) == list(TRUE)
    assert np.mean([one.value for one in found.values()]) == pytest.approx(1200)
    assert all(one.low < one.value < one.high for one in found.values())  # type: ignore[operator]


@pytest.mark.parametrize(
    ("draws", "least", "most"), [(6, 0.85, 1.0), pytest.param(200, 0.92, 0.98, marks=pytest.mark.slow)]
)
def test_intervals_cover_what_they_say(draws: int, least: float, most: float) -> None:
    """95% intervals of 10,000 votes hold the truth in 92 to 98% of (draw, judge); few draws only show gross errors."""
    held = []
    for draw in range(draws):
        found = fit(simulated(TRUE, 10_000, seed=1000 + draw), list(TRUE), seed=draw).strengths
        held += [one.low <= TRUE[name] <= one.high for name, one in found.items()]  # type: ignore[operator]
    share = np.mean(held)
    print(f"coverage {share:.4f} of {len(held)}")
    assert least <= share <= most


def test_choix_and_statsmodels_have_the_same_strengths() -> None:
    names = list(TRUE)
    votes = simulated(TRUE, 2000, seed=4)
    ours = np.array([fit(votes, names, resamples=0).strengths[name].value for name in names])
    won = [(names.index(one.judge_a), names.index(one.judge_b))[:: 1 if one.choice == "a" else -1] for one in votes]
    theirs = choix.opt_pairwise(len(names), won)
    assert ours == pytest.approx(1200 + 400 / np.log(10) * (theirs - theirs.mean()), abs=1e-3)

    tied = simulated(TRUE, 2000, seed=5, ties=0.3)
    table = np.zeros((len(tied), len(names)))
    for row, one in enumerate(tied):
        table[row, names.index(one.judge_a)], table[row, names.index(one.judge_b)] = 1, -1
    glm = sm.GLM([one.score for one in tied], table[:, 1:], family=sm.families.Binomial()).fit()
    logits = np.append(0.0, glm.params)
    ours = np.array([fit(tied, names, resamples=0).strengths[name].value for name in names])
    assert ours == pytest.approx(1200 + 400 / np.log(10) * (logits - logits.mean()), abs=1e-3)


def test_intervals_are_the_width_that_statsmodels_says() -> None:
    votes = simulated({"ash": 1250.0, "birch": 1150.0}, 4000, seed=6)
    found = fit(votes, ["ash", "birch"], resamples=2000).strengths["ash"]
    sides = np.array([1 if one.judge_a == "ash" else -1 for one in votes])
    glm = sm.GLM([one.score for one in votes], sides[:, None], family=sm.families.Binomial()).fit()
    # The difference of two strengths around their mean is twice one's distance from it.
    width = 2 * 1.96 * glm.bse[0] * 400 / np.log(10) / 2
    assert found.high - found.low == pytest.approx(width, rel=0.08)  # type: ignore[operator]


def test_no_votes() -> None:
    found = fit([], ["ash", "birch"])
    assert found.strengths == {} and found.notes[0] == "There are no votes yet."
    assert found.unrated == {"ash": "no votes", "birch": "no votes"}


def test_no_judges() -> None:
    assert fit([], []).strengths == {}


def test_one_vote_says_next_to_nothing() -> None:
    found = fit([vote(1, "ash", "birch")], ["ash", "birch"])
    assert found.strengths == {}
    assert found.unrated == {"ash": "has won every battle", "birch": "has lost every battle"}
    assert any("one vote" in note for note in found.notes) and any("no finite solution" in note for note in found.notes)


def test_all_ties_have_no_order_and_no_interval() -> None:
    votes = [vote(1, "ash", "birch", "tie"), vote(2, "birch", "cedar", "both_bad"), vote(3, "cedar", "ash", "tie")]
    found = fit(votes, ["ash", "birch", "cedar"])
    assert [one.value for one in found.strengths.values()] == pytest.approx([1200] * 3)
    assert {(one.low, one.high) for one in found.strengths.values()} == {(None, None)}
    assert any("All votes are ties" in note for note in found.notes)


def test_groups_that_never_met_are_named() -> None:
    votes = simulated({"ash": 1250.0, "birch": 1200.0, "cedar": 1150.0}, 300, seed=7)
    votes += simulated({"elm": 1250.0, "fir": 1150.0}, 100, seed=8)
    found = fit(votes, ["ash", "birch", "cedar", "elm", "fir", "hazel"])
    assert set(found.strengths) == {"ash", "birch", "cedar"}
    assert found.unrated == {
        "elm": "has met none of the rated judges",
        "fir": "has met none of the rated judges",
        "hazel": "no votes",
    }
    assert any("2 groups that have never met" in note for note in found.notes)


def test_a_judge_that_only_wins_has_no_finite_strength() -> None:
    votes = simulated({"ash": 1200.0, "birch": 1200.0}, 100, seed=9)
    votes += [vote(101 + place, "fir", "ash") for place in range(5)]
    found = fit(votes, ["ash", "birch", "fir"])
    assert set(found.strengths) == {"ash", "birch"} and found.unrated == {"fir": "has won every battle"}


def test_two_groups_that_met_one_way_only() -> None:
    votes = simulated({"ash": 1200.0, "birch": 1200.0, "cedar": 1200.0}, 200, seed=10)
    votes += [vote(300, "elm", "fir"), vote(301, "fir", "elm"), vote(302, "elm", "ash")]
    found = fit(votes, ["ash", "birch", "cedar", "elm", "fir"])
    assert set(found.strengths) == {"ash", "birch", "cedar"}
    assert found.unrated["elm"] == "no chain of wins leads to it and back"


def test_few_votes_that_often_come_apart_have_no_intervals() -> None:
    votes = [vote(place, "ash", "birch") for place in range(1, 5)] + [vote(5, "birch", "ash")]
    found = fit(votes, ["ash", "birch"])
    assert found.strengths["ash"].value > 1200 and found.strengths["ash"].low is None
    assert any("No Bradley-Terry intervals" in note for note in found.notes)


def test_the_same_votes_give_the_same_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    votes = simulated(TRUE, 500, seed=11)
    assert fit(votes, list(TRUE), seed=3) == fit(votes[::-1], list(TRUE)[::-1], seed=3)
    assert fit(votes, list(TRUE), seed=3) != fit(votes, list(TRUE), seed=4)
    monkeypatch.setattr(bradley_terry, "LIMIT", 1)
    assert fit(votes, list(TRUE)).notes[-1] == "Bradley-Terry did not converge."
