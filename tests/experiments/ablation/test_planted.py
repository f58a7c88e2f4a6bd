"""The rule on planted sources: flipped labels are told from right ones, and what is counted as wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from pipelines.core.records import Row
from pipelines.core.run import Run
from pipelines.experiments.ablation.config import AblationConfig
from pipelines.experiments.ablation.planted import LEARNS, NOISE, Counted, Planted, write_check
from pipelines.experiments.records import record
from pipelines.experiments.trials.config import TrialsConfig
from pipelines.experiments.trials.stand_in import StandIn


def rows(source: str, count: int, seed: int, learnable: bool = True) -> list[Row]:
    """Pairs in which the longer response is better, or either by chance."""
    random = np.random.default_rng(seed)
    found: list[Row] = []
    for i in range(count):
        lengths = random.integers(5, 60, 2)
        right = "A" if lengths[0] > lengths[1] else "B"
        if not learnable or random.random() < 0.1:
            right = "AB"[random.integers(2)]
        found.append(
            {
                "row_id": f"{source}{i}",
                "judgment_id": f"{source}{i}",
                "benchmark": "held",
                "source": source,
                "task": "pairwise",
                "allowed": ["A", "B"],
                "group_id": f"{source}{i}",
                "instruction": "Say something",
                "context": None,
                "responses": [" ".join(f"w{n}" for n in random.integers(0, 99, length)) for length in lengths],
                "verdict": right,
                "gold": right,
                "rejected_verdict": "B" if right == "A" else "A",
            }
        )
    return found


@pytest.fixture(scope="module")
def planted() -> Planted:
    # Each seed has 40 rows of its own: shared ones would widen the intervals, and leave more undecided.
    pool = {"a": rows("a", 120, 0), "b": rows("b", 120, 1), "chance": rows("c", 120, 2, learnable=False)}
    pool["few"] = rows("f", 10, 4)
    trials = TrialsConfig(pool=120, pairs=40, seeds=[0, 1, 2])
    return Planted(pool, rows("h", 400, 3), trials, AblationConfig.model_validate({"filter": {"quantiles": [0.5]}}))


def test_the_stand_in_learns_what_labels_teach_it_and_nothing_of_chance(planted: Planted) -> None:
    assert planted.gain_of("a") > 0.2 and planted.gain_of("b") > 0.2
    assert abs(planted.gain_of("chance")) < 0.2 and "few" not in planted.pool


def test_swapped_pairs_teach_the_opposite() -> None:
    pool, held = rows("a", 60, 0), rows("h", 100, 3)
    judge = StandIn(pool, held)
    right, wrong = judge.trial(range(60)), judge.trial(range(60), [-1] * 60)
    assert np.allclose(right, -np.array(wrong), atol=1e-6)
    hits = [np.argmax(values) == "AB".index(row["gold"]) for values, row in zip(right, held, strict=True)]
    assert np.mean(hits) > 0.8 and judge.trial([]) == [[0.0, 0.0]] * 100


def test_the_rule_finds_flipped_labels_and_repairs_noise(planted: Planted) -> None:
    counted = planted.run(4)
    assert counted.sources[:2] == ["a", "b"] and all(planted.gain_of(one) > LEARNS for one in counted.sources)
    assert counted.decisions["flipped"]["exclude"] >= 3 and counted.wrong("flipped") == 0
    assert counted.decisions["clean"]["include"] >= 6 and counted.wrong("clean") == 0
    assert counted.wrong("noisy") == 0 and counted.wrong("random") <= 1


def test_two_runs_count_the_same(planted: Planted) -> None:
    assert planted.run(2) == planted.run(2)


def test_a_share_of_the_noisy_rows_is_flipped_and_its_score_tells_them(planted: Planted) -> None:
    names = [f"noisy a{i}" for i in range(80)]
    signs = {name: planted.sign(0, name) for name in names}
    flipped = [name for name, sign in signs.items() if sign < 0]
    assert abs(len(flipped) / 80 - NOISE) < 0.15
    assert {planted.sign(0, f"flipped a{i}") for i in range(80)} == {-1}
    (arm,) = planted.filters(0, names, signs, [5])
    left = [sum(row in flipped for row in one.rows) for one in (*arm.filtered, *arm.random)]
    assert arm.size == 40 and left[0] < left[1]


def test_what_is_wrong_is_counted_and_what_is_left_open_is_not(tmp_path: Path) -> None:
    decisions = {
        "clean": Counter(include=6, exclude=1),
        "flipped": Counter(exclude=3, include=1),
        "random": Counter(undecided=4),
        "noisy": Counter(filter=2, undecided=2),
    }
    counted = Counted(decisions, ["a"])  # type: ignore[arg-type]
    assert [counted.wrong(kind) for kind in decisions] == [1, 1, 0, 0]  # type: ignore[arg-type]
    run = Run(tmp_path)
    write_check(run, counted, 4, {"pairs": 8}, "the rule")
    about = record.read(run.experiments / "ablation-check")
    shares = {(one.name, one.of): one.value for one in about.figures}
    assert about.judge == "stand-in" and shares["share wrong", "flipped"] == 0.25
    assert shares["share right", "noisy"] == 0.5 and shares["share right", "random"] == 1
