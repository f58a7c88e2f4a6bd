"""From trials to the mixture: which trials there are, and what is made of their outcomes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.core.records import Row
from pipelines.experiments.ablation import arms as made
from pipelines.experiments.ablation.arms import Arms
from pipelines.experiments.ablation.choose import Choice, choose, evidence
from pipelines.experiments.ablation.config import AblationConfig, RuleConfig
from pipelines.experiments.trials.config import TrialsConfig
from pipelines.experiments.trials.effects import Tables
from pipelines.experiments.trials.trial import BASE, Trial, draw, shared, trial

TASKS = {"pairwise": ["p"]}
SIZES = TrialsConfig(pool=40, pairs=16, seeds=[0, 1, 2])


def pool(*sources: str, count: int = 40) -> dict[str, list[Row]]:
    """Rows whose reward is their number."""
    return {
        source: [
            {
                "row_id": f"{source}-{i:02d}",
                "source": source,
                "task": "pairwise",
                "allowed": ["A", "B"],
                "verdict": "A",
                "responses": ["x" * i, "y"],
                "rewards": [float(i), 0.0],
            }
            for i in range(count)
        ]
        for source in sources
    }


def arms_of(rows: dict[str, list[Row]], sizes: TrialsConfig, config: AblationConfig) -> Arms:
    """Every source is filtered by the score that the config names."""
    by = {source: config.filter.scores.get(source, config.filter.score) for source in rows}
    return made.arms_of(rows, sizes, config, by if config.filter.enabled else {})


def ablation(**changes: Any) -> AblationConfig:
    return AblationConfig.model_validate({"mixture_pairs": 20, **changes})


def outcome_of(good: dict[str, float]) -> Any:
    """A judge that is right as often as its pairs are good."""

    def outcome(one: Trial) -> Tables:
        share = 0.5 + (float(np.mean([good.get(row, good.get(row[0], 0.0)) for row in one.rows])) if one.rows else 0.0)
        random = np.random.default_rng(0)  # the same rows for all
        points = (random.random(300) < share).astype(float)
        noise = np.random.default_rng(int(one.name, 16)).random(300) < 0.02
        return {"p": pd.DataFrame({"group_id": [str(i) for i in range(300)], "points": np.abs(points - noise)})}

    return outcome


def chosen(good: dict[str, float], arms: Arms, **rule: Any) -> Choice:
    return choose(evidence(arms, outcome_of(good), TASKS), arms.short, RuleConfig.model_validate(rule))


def test_trials_of_a_seed_take_the_same_rows_whatever_their_order() -> None:
    rows = [f"r{i}" for i in range(30)]
    assert draw(rows, 5, [1, 2]) == draw(rows[::-1], 5, [1, 2]) != draw(rows, 5, [2, 1])
    assert draw(rows, 5, [1, 2, 3])[:2] == draw(rows, 5, [1, 2])
    assert trial(rows[::-1], 1) == trial(rows, 1) and trial(rows, 1).name != trial(rows, 2).name


def test_seeds_have_no_row_in_common_while_rows_suffice() -> None:
    rows = [f"r{i}" for i in range(30)]
    apart, tight, same = (
        [trial(own, seed) for seed, own in enumerate(draw(rows, count, [0, 1, 2]))] for count in (10, 20, 30)
    )
    assert sorted(row for one in apart for row in one.rows) == sorted(rows)
    assert [shared(found) for found in (apart, tight, same)] == pytest.approx([0, 0.5, 1])
    assert all(len(set(one.rows)) == len(one.rows) for one in tight)
    assert shared(apart[:1]) == 0


def test_every_source_is_tried_alone_with_equally_many_pairs() -> None:
    arms = arms_of(pool("a", "b", "c"), SIZES, ablation(filter={"enabled": False}))
    assert all(
        len(one.rows) == 16 and {row[0] for row in one.rows} == {name} for name, t in arms.alone.items() for one in t
    )
    assert len(arms.all) == 3 and all(len(one.rows) == 20 for one in arms.all)
    for name, found in arms.without.items():
        assert all(len(one.rows) == 20 and name not in {row[0] for row in one.rows} for one in found)
    assert len(arms.trials()) == 9 + 3 + 9


@pytest.mark.parametrize("order", ["abc", "acb", "cab"])
def test_sources_with_few_rows_leave_all_trainings_with_equally_many_pairs(order: str) -> None:
    rows = pool("a", "b") | pool("c", count=17)
    arms = arms_of({name: rows[name] for name in order}, SIZES, ablation(mixture_pairs=96, filter={"enabled": False}))
    trials = [*arms.all, *(one for found in arms.without.values() for one in found)]
    assert arms.several == 57 and {len(one.rows) for one in trials} == {57}  # 40 and 17: without a, or without b
    assert all(len({*one.rows}) == 57 for one in trials)
    enough = arms_of({name: rows[name] for name in order}, SIZES, ablation(mixture_pairs=48, filter={"enabled": False}))
    assert enough.several == 48 and {len(one.rows) for one in enough.all} == {48}
    assert sum(row.startswith("c") for row in enough.all[0].rows) == 16


def test_evidence_that_is_not_there_is_not_replaced_by_other_evidence() -> None:
    arms = arms_of(pool("a", "b") | pool("c", count=15), SIZES, ablation(filter={"enabled": False}))
    found = chosen({"a": 0.3, "b": -0.3}, arms, evidence="left_out")
    assert {one.verdict for one in found.sources.values()} == {"undecided"}
    assert "fewer than three sources" in found.sources["a"].why and "15 usable rows" in found.sources["c"].why


def test_a_source_without_a_filter_says_why() -> None:
    rows = pool("a", "b", "c")
    for row in rows["b"]:
        row["rewards"] = None
    for row in rows["c"]:
        row["rewards"] = [1.0, 0.0]
    arms = arms_of(rows, SIZES, ablation(filter={"quantiles": [0.5]}))
    assert arms.filters.keys() == {"a"}
    assert arms.unfiltered == {
        "b": "no filter by reward is tried: its rows have no such score",
        "c": "no filter by reward is tried: all its rows have 1",
    }
    rows["a"][39]["rewards"] = None  # one row alone takes nothing from the others
    assert arms_of(rows, SIZES, ablation(filter={"quantiles": [0.5]})).filters.keys() == {"a"}


def test_a_filter_and_its_random_subset_are_of_equal_size() -> None:
    arms = arms_of(pool("a", "b"), SIZES, ablation(filter={"quantiles": [0.5, 0.75]}))
    half, quarter = arms.filters["a"]
    assert (half.size, quarter.size) == (8, 8) and half.random == quarter.random != arms.alone["a"]
    assert 0 < shared(half.filtered) < 0.2 < shared(quarter.filtered)  # three times 8 of 20 and 10 rows
    assert all(int(row[2:]) >= 20 for one in half.filtered for row in one.rows)
    assert all(len(one.rows) == 8 for one in (*quarter.filtered, *quarter.random))
    assert len(arms.trials()) == 2 * (3 + 3 + 3 + 3)
    few = arms_of(pool("a", "b"), SIZES.model_copy(update={"pairs": 8}), ablation(filter={"quantiles": [0.5]}))
    assert few.filters["a"][0].random == few.alone["a"]  # of equal size they are the same trials


def test_the_shortest_may_stay_and_a_source_without_the_score_is_left_alone() -> None:
    rows = pool("a", "b")
    for row in rows["b"]:
        row |= {"task": "classification", "allowed": ["Yes", "No"], "verdict": "Yes", "responses": ["x"]}
    arms = arms_of(rows, SIZES, ablation(filter={"scores": {"a": "length"}, "drop": "highest", "quantiles": [0.5]}))
    assert arms.filters.keys() == {"a"}
    assert all(int(row[2:]) < 20 for one in arms.filters["a"][0].filtered for row in one.rows)


def test_a_source_with_too_few_rows_is_said_and_left_undecided() -> None:
    arms = arms_of(pool("a", "b") | pool("c", count=15), SIZES, ablation(filter={"enabled": False}))
    assert arms.alone.keys() == {"a", "b"} and not arms.without
    found = chosen({"a": 0.3}, arms, undecided="exclude")
    assert found.sources["c"].why == "15 usable rows in the pool, 16 are needed"
    assert {name: one.include for name, one in found.mixture.sources.items()} == {"a": True, "b": False, "c": False}


def test_sources_are_in_and_out_by_what_they_do() -> None:
    arms = arms_of(pool("a", "b", "c"), SIZES, ablation(filter={"enabled": False}))
    good = {"a": 0.3, "b": -0.3, "c": 0.0}
    found = chosen(good, arms)
    assert {name: one.verdict for name, one in found.sources.items()} == {
        "a": "include",
        "b": "exclude",
        "c": "undecided",
    }
    assert [one.include for one in found.mixture.sources.values()] == [True, False, True]
    other = chosen(good, arms, evidence="left_out", undecided="exclude")
    assert [one.include for one in other.mixture.sources.values()] == [True, False, False]


def test_a_noisy_source_is_in_by_what_the_filter_leaves_of_it() -> None:
    rows = pool("a", "n")
    # The better half teaches, the worse half unteaches.
    good = {"a": 0.3} | {str(row["row_id"]): 0.3 if i >= 20 else -0.3 for i, row in enumerate(rows["n"])}
    found = chosen(good, arms_of(rows, SIZES, ablation(filter={"quantiles": [0.25, 0.5]})), undecided="exclude")
    assert found.sources["n"].verdict != "include" and found.repaired["n"].verdict == "include"
    kept = found.mixture.sources["n"]
    assert kept.include and kept.filter is not None and kept.filter.quantile == 0.5
    assert found.filters["a"][0] is None and found.mixture.sources["a"].filter is None
    assert "filter over random" in kept.why


def test_the_base_model_is_the_trial_of_no_rows() -> None:
    assert BASE.rows == () and outcome_of({})(BASE)["p"]["points"].mean() < 0.6
