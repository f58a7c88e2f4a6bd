"""Biases of judges whose biases are known: by hand, by closed forms, and by rule on real pairs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from pipelines.evaluation.asking.benchmark_rows import benchmark_examples
from pipelines.evaluation.scoring import bias, self_preference, verdict_tables
from pipelines.evaluation.scoring.results import summarise
from pipelines.judging.tasks import PAIRWISE

GOOD = {"q": "Which?", "a": "first", "b": "second", "label": "A"}
OTHER = {"A": "B", "B": "A"}


def line(row_id: Any, gold: str, said: str | None, order: str = "given", **columns: Any) -> dict[str, Any]:
    return {
        "row_id": str(row_id),
        "group_id": str(row_id),
        "subset": None,
        "order": order,
        "gold": gold,
        "predicted": said,
        "outcome": "ok" if said else "no_verdict",
        "length_a": 10,
        "length_b": 20,
        **columns,
    }


def both_orders(*verdicts: tuple[str | None, str | None]) -> pd.DataFrame:
    lines = []
    for number, (given, swapped) in enumerate(verdicts):
        lines += [line(number, "A", given), line(number, "B", swapped, "swapped")]
    return pd.DataFrame(lines)


def test_position_by_hand() -> None:
    judgments = both_orders(("A", "B"), ("A", "A"), ("A", "A"), ("B", "B"), (None, "A"), ("Tie", "A"), ("Tie", "Tie"))
    found = bias.position(verdict_tables.pairs(judgments), 0.95).model_dump()
    counts = {key: found[key] for key in ("pairs", "unread", "contradicted", "first", "second", "other")}
    assert counts == {"pairs": 7, "unread": 1, "contradicted": 4, "first": 2, "second": 1, "other": 1}
    low, high = proportion_confint(2, 4, method="wilson")
    assert found["primacy"] == {"value": 0.5, "ci_low": pytest.approx(low), "ci_high": pytest.approx(high)}
    assert found["recency"]["value"] == 0.25


def test_a_judge_that_never_contradicts_itself_shows_no_place() -> None:
    found = bias.position(verdict_tables.pairs(both_orders(("A", "B"), ("Tie", "Tie"))), 0.95).model_dump()
    assert found["contradicted"] == 0
    assert found["primacy"] == found["recency"] == {"value": None, "ci_low": None, "ci_high": None}


def test_one_order_alone_tells_nothing_about_place() -> None:
    found = bias.position(verdict_tables.pairs(pd.DataFrame([line(0, "A", "A")])), 0.95).model_dump()
    assert (found["pairs"], found["unread"], found["primacy"]["value"]) == (0, 0, None)


def test_accuracy_where_the_longer_is_right_and_where_it_is_not() -> None:
    longer_a, longer_b = {"length_a": 300, "length_b": 20}, {"length_a": 5, "length_b": 6}
    judgments = pd.DataFrame(
        [
            line(0, "A", "A", **longer_a),
            line(1, "B", "B", **longer_b),
            line(2, "B", None, **longer_b),  # not read: nothing is known of it
            line(9, "B", "A", **longer_b),
            line(3, "A", "A", **longer_a),
            line(4, "A", "B", **longer_b),
            line(5, "B", "B", **longer_a),
            line(6, "A", "A", length_a=7, length_b=7),  # neither is longer
            line(7, "Tie", "A", **longer_a),
            line(8, "A", "A", length_a=math.nan, length_b=math.nan),
        ]
    )
    found = bias.length(judgments, 0.95).model_dump()
    assert found["longer_right"] == {"n": 4, "accuracy": 0.75}
    assert found["shorter_right"] == {"n": 2, "accuracy": 0.5}
    assert found["difference"] == {"value": None, "ci_low": None, "ci_high": None}  # of a handful


def test_a_judge_that_is_unread_on_long_prompts_does_not_dislike_length() -> None:
    long, short = {"length_a": 9000, "length_b": 100}, {"length_a": 100, "length_b": 60}
    lines = [line(number, "A", None if number % 2 else "A", **long) for number in range(60)]
    lines += [line(number, "B", "B", **short) for number in range(60, 120)]
    found = bias.length(pd.DataFrame(lines), 0.95)
    assert (found.longer_right.n, found.longer_right.accuracy, found.shorter_right.accuracy) == (30, 1.0, 1.0)
    gap = found.difference
    assert gap.value == 0.0  # -0.5 with unread verdicts as wrong ones
    assert gap.ci_low is not None and gap.ci_high is not None and -0.13 < gap.ci_low < 0 < gap.ci_high < 0.13


def test_a_judge_that_was_never_read_has_no_bias_of_length() -> None:
    lines = [line(number, "A", None, length_a=30 + number % 3, length_b=31) for number in range(60)]
    found = bias.length(pd.DataFrame(lines), 0.95)
    assert (found.difference.value, found.difference.ci_low, found.regression.coefficient) == (None, None, None)


def choices(counts: list[tuple[str, int, int, int]], copies: int = 1, same_group: bool = False) -> pd.DataFrame:
    """Judgments from (gold, hundreds of characters that A is longer, judgments, of those for A)."""
    lines, number = [], 0
    for gold, hundreds, n, for_a in counts:
        for i in range(n):
            for copy in range(copies):
                group = number if same_group else f"{number}-{copy}"
                lengths = {"length_a": 5000 + 100 * hundreds, "length_b": 5000, "group_id": str(group)}
                lines.append(line(f"{number}-{copy}", gold, "A" if i < for_a else "B", **lengths))
            number += 1
    return pd.DataFrame(lines)


def logit(share: float) -> float:
    return math.log(share / (1 - share))


def test_the_coefficient_of_a_saturated_model_has_a_closed_form() -> None:
    counts = [("A", 1, 200, 150), ("A", -1, 100, 40)]
    found = bias.length(choices(counts), 0.95).model_dump()["regression"]
    assert found["n"] == 300
    assert found["coefficient"] == pytest.approx((logit(0.75) - logit(0.4)) / 2, abs=1e-5)
    # Independent rows: the variance of a log-odds is 1 / (n p (1 − p)).
    error = math.sqrt(1 / (200 * 0.75 * 0.25) + 1 / (100 * 0.4 * 0.6)) / 2
    assert (found["ci_high"] - found["ci_low"]) / 2 == pytest.approx(1.96 * error, rel=0.01)


def test_the_same_judgment_twice_in_a_group_tells_no_more_than_once() -> None:
    counts = [("A", 1, 60, 45), ("A", -1, 60, 24)]
    widths = []
    for copies, same_group in ((1, True), (4, True), (4, False)):
        fit = bias.length(choices(counts, copies, same_group), 0.95).model_dump()["regression"]
        widths.append(fit["ci_high"] - fit["ci_low"])
    assert widths[1] == pytest.approx(widths[0], rel=0.02)
    assert widths[2] == pytest.approx(widths[0] / 2, rel=0.02)


def test_length_that_only_goes_with_being_right_is_no_bias_given_the_right_verdict() -> None:
    # Three of four verdicts are right, whatever the length; the right response is the longer in three of four.
    counts = [("A", 1, 12, 9), ("A", -1, 4, 3), ("B", -1, 12, 3), ("B", 1, 4, 1)]
    found = bias.length(choices(counts), 0.95).model_dump()
    assert found["regression"]["coefficient"] == pytest.approx(logit(10 / 16), abs=1e-5)
    assert found["given_gold"]["coefficient"] == pytest.approx(0, abs=1e-6)
    assert found["given_gold"]["ci_low"] < 0 < found["given_gold"]["ci_high"]
    assert found["longer_right"]["accuracy"] == found["shorter_right"]["accuracy"]


@pytest.mark.parametrize(
    "counts",
    [
        [("A", 1, 20, 20), ("A", -1, 20, 0)],  # always the longer: no finite coefficient
        [("A", 1, 20, 20), ("A", -1, 20, 20)],  # always A
        [("A", 1, 40, 20)],  # lengths do not vary
        [("A", 1, 1, 1), ("A", -1, 1, 0)],
        [],
    ],
)
def test_data_that_determine_no_coefficient_give_none(counts: list[tuple[str, int, int, int]]) -> None:
    frame = choices(counts) if counts else pd.DataFrame([line(0, "A", None)])
    found = bias.length(frame, 0.95).model_dump()
    for name in ("regression", "given_gold"):
        assert [found[name][key] for key in ("coefficient", "ci_low", "ci_high")] == [None, None, None]


def test_self_preference_in_choices_by_hand() -> None:
    me, you = "me-8B", "you"
    judgments = pd.DataFrame(
        [
            line(0, "A", "A", generators=[me, you]),
            line(1, "A", "B", generators=[you, me]),  # own, and wrong
            line(2, "B", "B", generators=[you, me]),
            line(3, "B", "A", generators=[me, you]),  # own, and wrong
            line(9, "A", "A", generators=[me, you]),
            line(4, "A", "B", generators=[you, you]),
            line(5, "A", "B", generators=[me, me]),
            line(6, "A", None, generators=[me, you]),
            line(7, "Tie", "A", generators=[me, you]),
            line(8, "A", "A", generators=None),
        ]
    )
    found = self_preference.choices(judgments, self_preference.known_as("trained", "org/me-8b"), 0.95).model_dump()
    assert (found["available"], found["n"], found["chosen"], found["right"]) == (True, 5, 1.0, 0.6)
    # Its own chosen both times the other was right; the other never chosen in the three where its own was.
    assert (found["own_over_better"], found["other_over_better"], found["difference"]["value"]) == (1.0, 0.0, 1.0)
    assert found["difference"]["ci_low"] is None  # five judgments tell nothing
    stranger = self_preference.choices(judgments, {"base"}, 0.95).model_dump()
    assert (stranger["available"], "own" in stranger["why"]) == (False, True)
    unsigned = self_preference.choices(judgments.assign(generators=None), {me}, 0.95).model_dump()
    assert unsigned["why"] == self_preference.NO_GENERATORS


def scored(row_id: int, gold: float, said: str | None, generator: str | None) -> dict[str, Any]:
    signed = {"generators": [generator] if generator else None, "allowed": list("12345")}
    return line(row_id, str(gold), said, **signed)


def test_self_preference_of_scores_is_not_the_quality_of_the_own_responses() -> None:
    """A judge without preference that compresses the scale, and whose own responses are better."""
    lines = [
        scored(number, gold, f"{1.5 + gold / 2 + (number % 5 - 2) / 10}", "me" if number % 3 == 0 else "you")
        for number in range(90)
        for gold in [float((number * 7) % 3 + 1 + (2 if number % 3 == 0 else 0))]
    ]
    fair = self_preference.scores(pd.DataFrame(lines), {"me"}, 0.95)
    assert (fair.available, fair.n, fair.others) == (True, 30, 60)
    assert fair.difference and fair.difference.value == pytest.approx(0, abs=0.1)
    assert fair.difference.ci_low is not None and fair.difference.ci_high is not None
    assert fair.difference.ci_low < 0 < fair.difference.ci_high  # score minus gold would say -1
    vain = [{**one, "predicted": str(float(one["predicted"]) + 0.5 * (one["generators"] == ["me"]))} for one in lines]
    found = self_preference.scores(pd.DataFrame(vain), {"me"}, 0.95)
    assert found.difference and found.difference.value == pytest.approx(fair.difference.value + 0.5)


def test_self_preference_of_scores_leaves_out_what_is_unread_or_unsigned() -> None:
    lines = [scored(number, 1 + number % 5, str(1 + number % 4), ["Me", "you"][number % 2]) for number in range(12)]
    lines += [scored(20, 1.0, None, "me"), scored(21, 1.0, "5", None)]
    found = self_preference.scores(pd.DataFrame(lines), {"me"}, 0.95)
    assert (found.n, found.others) == (6, 6)
    for names, frame in (({"me"}, lines[:1]), ({"stranger"}, lines)):  # all are its own, or none
        assert self_preference.scores(pd.DataFrame(frame), names, 0.95).why == self_preference.NO_SCORES
    assert self_preference.scores(pd.DataFrame(lines[-1:]), {"me"}, 0.95).why == self_preference.NO_GENERATORS


def test_a_score_that_follows_gold_exactly_has_no_interval_of_zero_width() -> None:
    lines = [scored(number, 1 + number % 5, str(1 + number % 5), ["me", "you"][number % 2]) for number in range(40)]
    found = self_preference.scores(pd.DataFrame(lines), {"me"}, 0.95).difference
    assert found and found.value == pytest.approx(0, abs=1e-9) and (found.ci_low, found.ci_high) == (None, None)


def test_generators_change_places_with_their_responses(make_run: Callable, write_benchmark: Callable) -> None:
    path = write_benchmark(
        [{**GOOD, "q": f"Question {number}?"} for number in range(6)],
        extra={"generators": "['org/Me', 'you']"},
    )
    run = make_run({"base": lambda row: "Result: A"}, [path], models={"base": "org/me"})
    own = summarise(run.judgments, run.examples, run.config, 0).to_json()["bias"]["base"]["mine"]["self_preference"]
    assert own["available"] and (own["n"], own["chosen"]) == (12, 0.5)


def test_a_name_for_each_response_or_the_row_is_an_error(make_run: Callable, write_benchmark: Callable) -> None:
    names = "['me', 'you'] if record.q == 'Other?' else ['me']"
    path = write_benchmark([GOOD, {**GOOD, "q": "Other?"}], extra={"generators": names})
    table = benchmark_examples([path], None).to_pydict()
    assert sorted(table["status"]) == ["error:generators_not_one_per_response", "ok", "ok"]
    numbers = write_benchmark([GOOD], name="numbers", extra={"generators": "[1, none]"})
    assert benchmark_examples([numbers], None)["generators"].to_pylist() == [["1", None], [None, "1"]]


def test_self_preference_in_scores_by_hand(data_root: Path, make_run: Callable) -> None:
    # One more than the gold score where the response is its own, one less elsewhere, as far as the scale goes.
    def vain(row: dict[str, Any]) -> str:
        said = round(float(row["gold"])) + (1 if row["generators"] == ["chatgpt"] else -1)
        return f"Result: {min(max(said, 1), 5)}"

    run = make_run({"chatgpt": vain, "other": vain}, ["mt_bench"], data_root)
    found = summarise(run.judgments, run.examples, run.config, 0).to_json()["bias"]
    own = found["chatgpt"]["mt_bench"]["self_preference"]
    frame = pd.read_parquet(run.judgments["chatgpt"])
    mine = frame["generators"].map(lambda names: names[0] == "chatgpt")
    assert (own["n"], own["others"]) == (80, 240)
    fit = np.linalg.lstsq(
        np.column_stack([np.ones(320), frame["gold"].astype(float), mine]), frame["predicted"].astype(float)
    )[0]
    assert own["difference"]["value"] == pytest.approx(fit[2], abs=1e-6)
    assert 0.1 < own["difference"]["ci_low"] < own["difference"]["value"] < own["difference"]["ci_high"]
    assert found["other"]["mt_bench"]["self_preference"] == {"available": False, "why": self_preference.NO_SCORES}


def longest(row: dict[str, Any]) -> str:
    a, b = (len(text or "") for text in row["responses"])
    return f"Result: {'A' if a >= b else 'B'}"


def test_judges_of_known_bias_on_real_pairs(make_run: Callable, data_root: Path) -> None:
    rules = {"first": lambda row: "Result: A", "longest": longest, "right": lambda row: f"Result: {row['gold']}"}
    run = make_run(rules, ["evalbiasbench", "auto_j"], data_root)
    found = summarise(run.judgments, run.examples, run.config, 0).to_json()
    first, longer, right = (found["bias"][model] for model in rules)
    for name, n in (("evalbiasbench", 80), ("auto_j", 1392)):
        place = first[name]["position"]
        assert (place["pairs"], place["contradicted"], place["first"], place["unread"]) == (n, n, n, 0)
        assert (place["primacy"]["value"], place["recency"]["value"]) == (1.0, 0.0)
        assert first[name]["length"]["difference"]["value"] == pytest.approx(0, abs=1e-9)
        assert longer[name]["length"]["difference"]["value"] == 1.0
        assert right[name]["length"]["difference"]["value"] == 0.0
        assert right[name]["position"]["contradicted"] == 0
    kinds = first["evalbiasbench"]["kinds"]
    assert len(kinds) == 6 and sum(entry["n"] for entry in kinds.values()) == 80
    assert {entry["value"] for entry in kinds.values()} == {0.5}
    assert "kinds" not in first["auto_j"]


def test_a_row_without_responses_does_not_stop_the_others(make_run: Callable, write_benchmark: Callable) -> None:
    good = [{"q": str(n), "r": ["x" * n, "y"], "label": "A"} for n in range(2, 6)]
    bad = [{"q": "none", "label": "A"}, {"q": "one", "r": ["x"], "label": "A"}, {"q": "no", "r": [], "label": "A"}]
    fields = {"instruction": "record.q", "responses": "record.r", "verdict": "record.label"}
    path = write_benchmark([*bad, *good, "not json"], expected_n=8, fields=fields)
    run = make_run({"base": lambda row: "Result: A"}, [path])
    found = summarise(run.judgments, run.examples, run.config, 0).to_json()["bias"]["base"]["mine"]
    assert (found["position"]["pairs"], found["length"]["longer_right"]["n"]) == (4, 8)


def test_kinds_are_shares_of_points() -> None:
    judgments = both_orders(("A", "B"), ("A", "A"), ("B", "A"))
    judgments["subset"] = ["x"] * 4 + ["y"] * 2
    found = bias.kinds(verdict_tables.pairs(judgments), 0.95)
    assert {name: (part.n, part.value) for name, part in found.items()} == {"x": (2, 0.75), "y": (1, 0.0)}
    assert found["x"].ci_low is not None and 0.15 < found["x"].ci_low < 0.75 < found["x"].ci_high < 1


def test_flipping_responses_flips_no_finding() -> None:
    judgments = both_orders(("A", "B"), ("A", "A"), ("B", "B"), ("B", "A"), ("A", "A"))
    mirrored = judgments.assign(
        gold=judgments["gold"].map(PAIRWISE.opposite),
        predicted=judgments["predicted"].map(PAIRWISE.opposite),
        length_a=judgments["length_b"],
        length_b=judgments["length_a"],
    )
    one, two = (bias.length(frame, 0.95).model_dump() for frame in (judgments, mirrored))
    assert one["difference"] == pytest.approx(two["difference"])
