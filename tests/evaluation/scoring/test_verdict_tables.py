"""Tables of verdicts and the figures over them, by hand and against the libraries' own functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.evaluation.scoring.agreement import agreement
from pipelines.evaluation.scoring.correlations import pearson, spearman
from pipelines.evaluation.scoring.orders import PROTOCOLS, order_protocols, position_consistency
from pipelines.evaluation.scoring.verdict_tables import UNPARSED, pairs, parse_rate, right, scores
from pipelines.judging.tasks import PAIRWISE


def pair(row_id: str, gold: str, first: str | None, second: str | None, group: str = "g") -> list[dict[str, Any]]:
    """Two judgments of one pair; the second's letters are those of the swapped order. None is unread."""
    base = {"row_id": row_id, "group_id": group, "subset": None, "allowed": ["A", "B", "Tie"]}
    return [
        {**base, "order": order, "gold": truth, "predicted": said, "outcome": "ok" if said else "no_verdict"}
        for order, truth, said in (("given", gold, first), ("swapped", PAIRWISE.opposite(gold), second))
    ]


# Right in both orders; first only; second only (always A); neither; unread once; a tie right twice.
PAIRS = pd.DataFrame(
    pair("1", "A", "A", "B")
    + pair("2", "A", "A", "A")
    + pair("3", "B", "A", "A")
    + pair("4", "B", "A", "B")
    + pair("5", "B", "B", None)
    + pair("6", "Tie", "Tie", "Tie")
)


def test_the_order_protocols_of_six_pairs() -> None:
    # Right in order 1: pairs 1, 2, 5, 6; in order 2: pairs 1, 3, 6; in both: pairs 1, 6.
    table = pairs(PAIRS)
    orders = order_protocols(table, seed=0)
    assert orders["order1"] == pytest.approx(4 / 6)
    assert orders["order2"] == pytest.approx(3 / 6)
    assert orders["mean"] == pytest.approx(3.5 / 6)
    assert orders["best"] == pytest.approx(4 / 6)
    assert orders["both"] == pytest.approx(2 / 6)
    assert set(orders) == set(PROTOCOLS) - {"random"}  # one draw of six pairs tells nothing
    assert table["points"].tolist() == [1, 0.5, 0.5, 0, 0.5, 1]


def test_the_random_order_is_drawn_once_per_pair() -> None:
    lines = [pair(str(key), "A", "A", "A") for key in range(400)]  # right in order 1 only
    table = pairs(pd.DataFrame([line for two in lines for line in two]))
    share = order_protocols(table, seed=0)["random"]
    assert share == order_protocols(table, seed=0)["random"]
    assert share == pytest.approx(0.5, abs=0.08)
    assert len({order_protocols(table, seed)["random"] for seed in range(5)}) > 1


def test_position_consistency_leaves_unread_verdicts_out() -> None:
    # Consistent: 1 (A then B), 4 (A then B), 6 (Tie twice); inconsistent: 2, 3, 7; pair 5 is not read twice.
    lines = pd.concat([PAIRS, pd.DataFrame(pair("7", "B", "B", "B"))])
    found = position_consistency(pairs(lines))
    assert found == (pytest.approx(3 / 6), 6)


def test_consistency_without_any_pair_read_twice_is_null() -> None:
    table = pairs(pd.DataFrame(pair("1", "A", "A", None)))
    assert position_consistency(table) == (None, 0)


def test_one_order_alone_has_no_other_protocol() -> None:
    given = PAIRS[PAIRS["order"] == "given"]
    assert order_protocols(pairs(given), 0) == {"order1": 4 / 6, "mean": 4 / 6}


def test_a_missing_judgment_is_wrong() -> None:
    table = pairs(PAIRS.drop(index=1))  # the second order of pair 1
    assert table.loc["1", "points"] == 0.5
    assert order_protocols(table, 0)["order2"] == pytest.approx(2 / 6)


def test_a_verdict_counts_only_where_it_was_read() -> None:
    lines = PAIRS.assign(outcome="failed")
    assert right(lines).sum() == 0
    assert parse_rate(lines) == 0
    assert parse_rate(PAIRS) == pytest.approx(11 / 12)


def test_agreement_by_hand() -> None:
    # Yes: 2 of 3 right; No: 0 of 1. Precision of Yes 2/3.
    found = agreement(["Yes", "Yes", "Yes", "No"], ["Yes", "Yes", "No", "Yes"])
    assert found.accuracy == 0.5
    assert found.balanced_accuracy == pytest.approx((2 / 3 + 0) / 2)
    assert found.macro_f1 == pytest.approx((2 / 3 + 0) / 2)
    assert found.majority_class == 0.75
    assert found.kappa == pytest.approx((0.5 - 0.625) / (1 - 0.625))  # by chance 0.75² + 0.25²


def test_agreement_of_two_constant_raters() -> None:
    same = agreement(["A", "A"], ["A", "A"])
    assert (same.accuracy, same.kappa, same.majority_class) == (1.0, None, 1.0)
    assert agreement(["A", "A"], ["B", "B"]).kappa == 0


LABELS = st.lists(
    st.tuples(st.sampled_from(["A", "B", "Tie"]), st.sampled_from(["A", "B", "Tie", UNPARSED])),
    min_size=1,
    max_size=40,
)


@given(verdicts=LABELS)
@settings(deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_agreement_equals_scikit_learn(verdicts: list[tuple[str, str]]) -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    gold, said = [one for one, _ in verdicts], [two for _, two in verdicts]
    found = agreement(gold, said)
    assert found.accuracy == pytest.approx(accuracy_score(gold, said))
    assert found.balanced_accuracy == pytest.approx(balanced_accuracy_score(gold, said))
    assert all(value is None or np.isfinite(value) for value in found.model_dump().values())


def absolute(said: list[str | None], gold: list[str], scale: str = "12345") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "row_id": [f"r{number}" for number in range(len(said))],
            "group_id": "g",
            "subset": None,
            "order": "given",
            "gold": gold,
            "allowed": [list(scale)] * len(said),
            "predicted": said,
            "outcome": ["ok" if verdict else "no_verdict" for verdict in said],
        }
    )


def test_an_unread_score_is_the_mean_of_those_read() -> None:
    table = scores(absolute(["4", None, "5"], ["1", "5", "5"]))
    assert table["score"].tolist() == [4, 4.5, 5]
    assert table["read"].tolist() == [True, False, True]
    assert scores(absolute([None, None], ["5", "1"]))["score"].nunique() == 1


def test_a_judge_that_is_unread_where_responses_are_bad_gains_nothing_by_it() -> None:
    gold = [str(1 + number % 5) for number in range(100)]
    always_five = [None if int(truth) < 3 and number % 3 else "5" for number, truth in enumerate(gold)]
    table = scores(absolute(always_five, gold))
    assert pearson(table["score"], table["gold"]) == 0.0  # 0.6 if unread scores were the middle of the scale


def test_the_better_order_is_taken_in_each_part_where_the_benchmark_says_so() -> None:
    """A judge that leans to the first response in one part and to the second in the other, by SFR-Judge's code."""
    lines = [{**one, "subset": "x"} for key in range(8) for one in pair(f"x{key}", "A", "A", "A")]
    lines += [{**one, "subset": "y"} for key in range(2) for one in pair(f"y{key}", "A", "B", "B")]
    table = pairs(pd.DataFrame(lines))
    assert order_protocols(table, 0)["best"] == 0.8
    assert order_protocols(table, 0, by_subset=True)["best"] == 1.0


def test_gold_between_two_verdicts_counts_as_the_nearest_for_exact_scores_only() -> None:
    table = scores(absolute(["4", "3", "3"], ["3.6666666666666665", "3.5", "2.4"]))
    assert table["nearest"].tolist() == ["4", "3", "2"]
    assert table["gold"].tolist() == [3.6666666666666665, 3.5, 2.4]


def test_pearson_and_spearman_by_hand() -> None:
    # Deviations (-1, 0, 1) and (-2, 1, 1): covariance 3, variances 2 and 6.
    assert pearson([1, 2, 3], [1, 4, 4]) == pytest.approx(3 / np.sqrt(12))
    assert spearman([1, 2, 3], [10, 100, 1000]) == pytest.approx(1.0)
    assert pearson([1, 2, 3], [30, 20, 10]) == pytest.approx(-1.0)


def test_correlations_that_are_not_defined() -> None:
    assert pearson([3, 3, 3], [1, 2, 3]) == 0.0
    assert spearman([3, 3, 3], [1, 2, 3]) == 0.0
    assert pearson([1, 2, 3], [3, 3, 3]) is None
    assert pearson([1], [1]) is None
