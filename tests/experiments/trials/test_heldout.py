"""Held-out rows as judgments: one order a pair, a completion for each verdict, and what is left out is counted."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.core.records import Row
from pipelines.experiments.trials.config import HeldOutConfig
from pipelines.experiments.trials.heldout import select
from pipelines.experiments.trials.trial import BASE, trial
from pipelines.experiments.trials.worker import Ground, shares
from pipelines.training.config import TrainConfig


class Counter:
    """Counts words."""

    def prompts(self, texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]


def rows() -> list[Row]:
    texts = {"context": None, "reference": None, "rubric": None, "group_id": "g", "subset": None}
    found: list[Row] = []
    for i in range(20):
        about = {"benchmark": "p", "row_id": f"p{i}", "template": "pairwise_compact", "status": "ok"}
        for order, responses in (("given", ["a", "b"]), ("swapped", ["b", "a"])):
            own = {"task": "pairwise", "allowed": ["A", "B", "Tie"], "gold": "A", "responses": responses}
            words = "word " * (100 if i == 0 else 1)
            found.append(
                {**texts, **about, **own, "order": order, "instruction": words, "judgment_id": f"p{i}:{order}"}
            )
    about = {"benchmark": "a", "template": "absolute_compact", "task": "absolute", "order": "given", "responses": ["x"]}
    for i, status in enumerate(("ok", "error:null_response")):
        own = {"row_id": f"a{i}", "judgment_id": f"a{i}", "status": status, "allowed": ["1", "2"], "gold": "1.5"}
        found.append({**texts, **about, **own, "instruction": "x"})
    return found


def asked(**changes: Any) -> tuple[list[Row], dict[str, dict[str, int]]]:
    config = HeldOutConfig.model_validate({"max_tokens": 60, **changes})
    return select(rows(), config, 0, Counter())  # type: ignore[arg-type]


def test_each_pair_is_shown_in_one_order_by_its_hash() -> None:
    found, counts = asked()
    pairs = [row["judgment_id"] for row in found if row["benchmark"] == "p"]
    assert len(pairs) == 19 and len({name.split(":")[0] for name in pairs}) == 19
    assert {name.split(":")[1] for name in pairs} == {"given", "swapped"}
    none = {"not_in_sample": 0, "too_long": 0, "unusable": 0}
    assert counts == {"p": {**none, "asked": 19, "too_long": 1}, "a": {**none, "asked": 1, "unusable": 1}}


def test_both_orders_are_asked_where_that_is_wanted() -> None:
    _, counts = asked(orders="both")
    assert counts["p"] == {"asked": 38, "not_in_sample": 0, "too_long": 2, "unusable": 0}


@pytest.mark.parametrize(("orders", "each"), [("one", 1), ("both", 2)])
def test_a_sample_is_of_the_rows_that_fit(orders: str, each: int) -> None:
    found, counts = asked(sample=8, orders=orders)
    pairs = [row["row_id"] for row in found if row["benchmark"] == "p"]
    assert len(set(pairs)) == 8 and len(pairs) == 8 * each and "p0" not in pairs
    assert counts["p"] == {"asked": 8 * each, "not_in_sample": 11 * each, "too_long": each, "unusable": 0}
    assert pairs != [f"p{i}" for i in range(1, 9) for _ in range(each)]  # by hash, not the first ones


def test_each_verdict_is_a_completion_without_a_critique() -> None:
    found, _ = asked()
    assert found[0]["completions"] == ["Result: A", "Result: B", "Result: Tie"]
    assert "Reasoning" not in found[0]["prompt"] and found[-1]["completions"] == ["Result: 1", "Result: 2"]


def test_verdicts_are_shares_of_their_closed_set() -> None:
    assert shares([-5.0, -5.0]) == [0.5, 0.5] and sum(shares([-900.0, -901.0, -3.0])) == pytest.approx(1)


def test_a_trial_is_known_by_what_it_depends_on(tmp_path: Any) -> None:
    ground = Ground(tmp_path, "f", TrainConfig(), "embedded", None, [], [])
    one = trial(["b", "a"], 1)
    assert ground.place(one) == ground.place(trial(["a", "b"], 1))
    others = [BASE, trial(["a"], 1), trial(["a", "b"], 2), trial(["a", "b"], 1, {"beta": 0.2})]
    assert len({ground.place(each) for each in [one, *others]}) == 5
    moved = Ground(tmp_path, "g", TrainConfig(), "embedded", None, [], [])
    assert moved.place(one) != ground.place(one)
