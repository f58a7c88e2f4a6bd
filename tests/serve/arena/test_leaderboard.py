"""The leaderboard, effects of side and style, and the audit, on votes with a known answer."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from serve.arena.ratings.audit import audit, fewest_removed
from serve.arena.ratings.effects import Style, effects, style_of
from serve.arena.ratings.elo import ratings_of
from serve.arena.ratings.leaderboard import leaderboard
from serve.arena.ratings.vote import Vote
from tests.serve.arena.simulated import simulated

TRUE = {"ash": 1290.0, "birch": 1220.0, "cedar": 1150.0}
SAME = (Style(100, 0), Style(100, 0))


def test_every_figure_of_three_votes_by_hand() -> None:
    votes = [
        Vote(1, "b1", "ash", "birch", "a"),
        Vote(2, "b2", "cedar", "ash", "tie"),
        Vote(3, "b3", "birch", "cedar", "both_bad"),
    ]
    found = leaderboard(votes, {"ash": False, "birch": False, "cedar": True, "elm": False})
    assert [(one.rank, one.judge, one.votes) for one in found.standings] == [
        (1, "ash", 2),
        (2, "cedar", 2),
        (3, "birch", 2),
        (4, "elm", 0),
    ]
    ash, cedar, birch, elm = found.standings
    assert (ash.wins, ash.losses, ash.ties, ash.both_bad, ash.win_rate) == (1, 0, 1, 0, 0.75)
    assert (birch.wins, birch.losses, birch.ties, birch.both_bad, birch.win_rate) == (0, 1, 0, 1, 0.25)
    assert cedar.retired and not ash.retired and all(one.preliminary for one in found.standings)
    assert (elm.elo, elm.win_rate, elm.unrated) == (1200, None, "no votes")
    assert found.history["ash"][0] == (1, 1216) and [place for place, _ in found.history["cedar"]] == [2, 3]
    assert (found.matrix["ash"]["birch"].points, found.matrix["birch"]["ash"].points) == (1, 0)
    assert (found.matrix["cedar"]["ash"].points, found.matrix["cedar"]["ash"].battles) == (0.5, 1)
    assert "elm" not in found.matrix["ash"]


def test_a_rating_is_preliminary_below_300_votes() -> None:
    votes = simulated({"ash": 1200.0, "birch": 1200.0}, 300, seed=0)
    assert not leaderboard(votes, {"ash": False, "birch": False}).standings[0].preliminary
    assert leaderboard(votes[:299], {"ash": False, "birch": False}).standings[0].preliminary


def test_side_and_length_are_found_and_taken_out() -> None:
    """Visitors who like side A and long critiques; `fir` is no better, it only writes more."""
    rng = np.random.default_rng(0)
    names, votes, styles = ["ash", "birch", "fir"], [], {}
    for place in range(6000):
        a, b = rng.choice(3, 2, replace=False)
        longer = [int(rng.integers(50, 400)) * (4 if names[one] == "fir" else 1) for one in (a, b)]
        styles[f"b{place}"] = Style(longer[0], 0), Style(longer[1], 0)
        points = 30 + 60 * np.log2((longer[0] + 1) / (longer[1] + 1))
        won = rng.random() < 1 / (1 + 10 ** (-points / 400))
        votes.append(Vote(place + 1, f"b{place}", names[a], names[b], "a" if won else "b"))
    found = effects(votes, styles, names)
    side, length = found.traits  # there is no markup, so no effect of it
    assert side.low < 30 < side.high and length.low < 60 < length.high
    assert side.low > 0 and length.high - length.low < 20
    assert found.controlled["fir"] == pytest.approx(1200, abs=25)
    board = leaderboard(votes, dict.fromkeys(names, False), styles, resamples=0)
    assert board.standings[0].judge == "fir" and board.standings[0].strength.value > 1250  # type: ignore[union-attr]
    share, low, high = found.side_a  # type: ignore[misc]
    assert low < share < high and share > 0.5


def test_without_effects_intervals_hold_nothing() -> None:
    votes = simulated(TRUE, 3000, seed=1)
    rng = np.random.default_rng(1)
    styles = {
        one.battle: (Style(*map(int, rng.integers(1, 500, 2))), Style(*map(int, rng.integers(1, 500, 2))))
        for one in votes
    }
    assert all(trait.low < 0 < trait.high for trait in effects(votes, styles, list(TRUE)).traits)


def test_effects_say_what_is_missing() -> None:
    votes = simulated(TRUE, 30, seed=2)
    assert "from 50 votes on" in effects(votes, {}, list(TRUE)).notes[0]
    assert effects([], {}, []).side_a is None
    always = [Vote(place, f"b{place}", "ash", "birch", "a") for place in range(1, 100)]
    told = effects(always, {one.battle: SAME for one in always}, ["ash", "birch"])
    assert told.traits == [] and told.notes


def test_style_counts_what_is_seen() -> None:
    assert style_of("# Title\n- one\n2. two **bold** x*y") == Style(33, 4)
    assert style_of("plain - text") == Style(12, 0)


def test_the_audit_names_marked_votes_and_a_busy_visitor_that_lift_a_judge() -> None:
    votes = simulated(TRUE, 1000, seed=3)
    stuffed = [Vote(1001 + place, f"s{place}", "cedar", "ash", "a", "robot") for place in range(400)]
    votes += stuffed
    found = audit(votes, TRUE, {"fast": {one.battle for one in stuffed}, "agent": set()})
    assert found.votes == 1400 and found.visitors == 51 and found.marks == {"agent": 0, "fast": 400}
    by_name = {one.what: one for one in found.left_out}
    assert by_name["all marked votes"].votes == 400 == by_name["busiest visitor 1"].votes
    assert by_name["all marked votes"].elo["cedar"] == (1, 3)
    assert by_name["busiest visitor 1"].bradley_terry["cedar"][1] == 3
    assert by_name["votes marked agent"].elo == {} and by_name["busiest visitor 2"].votes < 50


def test_fewest_votes_turn_neighbours_and_one_less_does_not() -> None:
    votes = simulated({"ash": 1205.0, "birch": 1200.0, "cedar": 1100.0}, 2000, seed=4)
    gap = audit(votes, TRUE, {}).by_bradley_terry[0]
    assert gap.removed is not None and 0 < gap.removed < 100
    # By hand: of two judges alone, half the difference of wins and one more.
    pair = [Vote(place, f"b{place}", "ash", "birch", "a" if place % 5 else "b") for place in range(1, 101)]
    assert fewest_removed(pair, "ash", "birch") == 61  # 80 wins against 20: 19 against 20 turns it
    elo_gap = audit(pair, {"ash", "birch"}, {}).by_elo[0]
    more = [*pair, *(Vote(101 + n, f"c{n}", "birch", "ash", "a") for n in range(elo_gap.added or 0))]
    assert ratings_of(more)["birch"] > ratings_of(more)["ash"]
    assert ratings_of(more[:-1])["birch"] <= ratings_of(more[:-1])["ash"]


def test_the_audit_of_nothing() -> None:
    found = audit([], {"ash", "birch"}, {})
    assert (found.votes, found.by_elo, found.by_bradley_terry) == (0, [], [])
    assert audit([Vote(1, "b1", "ash", "birch", "a")], {"ash", "birch"}, {}).by_bradley_terry == []


def test_nothing_depends_on_more_than_the_votes() -> None:
    votes = simulated(TRUE, 200, seed=5)
    judges = dict.fromkeys(TRUE, False)
    first, again = (
        leaderboard(votes, judges),
        leaderboard([replace(one) for one in votes], dict(reversed(judges.items()))),
    )
    assert first == again
    assert json.dumps(first.history, sort_keys=True) == json.dumps(again.history, sort_keys=True)
