"""Headlines by each benchmark's published rule, on a case computed by hand: packaged YAML and small files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Row = dict[str, Any]


def about(value: float) -> Any:
    return pytest.approx(value, abs=1e-6)  # results.json keeps six decimals


def test_infobench_accuracy_beside_the_majority_class(files: Callable, entry: Callable) -> None:
    records = [
        {"model": "m", "instruction": f"q{n}", "response": "r", "question": "Is it?", "label": int(n < 3)}
        for n in range(4)
    ]
    found = entry("infobench", lambda row: "Yes", files("infobench/expert_all_agree.jsonl", records))
    keys = ("value", "majority_class", "balanced_accuracy", "kappa")
    assert [found[key] for key in keys] == [0.75, 0.75, 0.5, 0]


@pytest.mark.parametrize("name", ["hhh_alignment", "evalbiasbench"])
def test_hhh_and_evalbiasbench_are_micro_averaged(name: str, files: Callable, entry: Callable) -> None:
    """A part of one pair and a part of three: the rows count, not the parts."""
    if name == "hhh_alignment":
        pairs = [{"input": f"q{n}", "output_1": "x", "output_2": "y", "label": 1} for n in range(4)]
        files("hhh_alignment/hhh_harmless.jsonl", pairs[:1])
        data = files("hhh_alignment/hhh_other.jsonl", pairs[1:])
    else:
        document = {
            kind: [{"bias": kind, "instruction": f"q{n}", "response1": "x", "response2": "y", "label": 1} for n in rows]
            for kind, rows in {"length bias": [0], "concreteness": [1, 2, 3]}.items()
        }
        data = files("evalbiasbench/biasbench.json", document)
    found = entry(name, {"q0": ("A", "B"), "q1": ("B", "A"), "q2": ("B", "A"), "q3": ("B", "A")}, data)
    assert found["value"] == 1 / 4
    assert sorted(part["value"] for part in found["subsets"].values()) == [0, 1]


def test_lfqa_counts_every_experts_judgment_of_a_pair(files: Callable, entry: Callable) -> None:
    """Three experts, two of whom agree: no judge can be right about all three."""
    pair = {"question": "q", "answer_a": "x", "answer_b": "y"}
    data = files("lfqa_eval/lfqa_eval_experts_processed.jsonl", [{**pair, "label": label} for label in (1, 1, 2)])
    found = entry("lfqa", {"q": ("A", "B")}, data)
    assert (found["n"], found["value"]) == (3, about(2 / 3))


@pytest.mark.parametrize("name", ["instrusum", "llmbar"])
def test_instrusum_and_llmbar_average_both_orders_and_sfr_judge_takes_the_better(
    name: str, files: Callable, entry: Callable
) -> None:
    pairs = [{"input": f"q{n}", "output_1": "x", "output_2": "y", "label": 1} for n in range(3)]
    place = {"instrusum": "instrusum/instrusum_acc.jsonl", "llmbar": "llmbar/LLMBar__Natural__dataset.json"}[name]
    found = entry(name, {"q0": ("A", "B"), "q1": ("A", "A"), "q2": ("B", "A")}, files(place, pairs))
    assert found["value"] == 0.5
    assert found["orders"]["best"] == about(2 / 3)


# Verdicts 1, 2, 3 and gold means 1, 4, 4: deviations (-1, 0, 1) and (-2, 1, 1), covariance 3, variances 2 and 6.
GOLDS = [[1, 1, 1], [3, 4, 5], [5, 4, 3]]
SAID = {"q0": "1", "q1": "2", "q2": "3"}
PEARSON = 3 / np.sqrt(12)


def prometheus(score: str) -> list[Row]:
    """Records that hold whole Prometheus prompts, as the files of MT-Bench and FLASK do."""
    text = "###The instruction to evaluate:{}###Response to evaluate:r###Reference Answer (Score 5):f"
    text += "###Score Rubrics:s###Feedback:"
    return [
        {"instruction": text.format(f"q{n}"), score: gold, "category": "math", "criteria": "logic", "idx": n}
        for n, gold in enumerate(GOLDS)
    ]


def test_mt_bench_pearson_with_the_mean_of_three_scores(files: Callable, entry: Callable) -> None:
    data = files("mt_bench/mt_bench_eval.json", prometheus("gpt4_score"))
    assert entry("mt_bench", lambda row: SAID[row["instruction"]], data)["value"] == about(PEARSON)


def test_flask_pearson_with_the_mean_of_the_human_scores(files: Callable, entry: Callable) -> None:
    data = files("flask/flask_eval.json", prometheus("human_score"))
    found = entry("flask", lambda row: SAID[row["instruction"]], data)
    assert found["value"] == about(PEARSON)
    assert found["subsets"]["logic"]["n"] == 3


def test_flask_on_the_hub_has_the_parts_in_columns(hub: Callable, entry: Callable) -> None:
    parts = {"response": "r", "reference_answer": "f", "rubric": "s"}
    asked = hub([{"query": f"q{n}", "human_score": gold, **parts} for n, gold in enumerate(GOLDS)])
    assert entry("flask", lambda row: SAID[row["instruction"]])["value"] == about(PEARSON)
    assert asked == [("ContextualAI/Flask", None, "test")]


def test_biggen_bench_leaves_the_sentinel_out(files: Callable, entry: Callable) -> None:
    rubric = {"criteria": "c", **{f"score{n}_description": "d" for n in range(1, 6)}}
    row = {"system_prompt": "s", "response": "r", "reference_answer": "f", "score_rubric": rubric, "capability": "c"}
    records = [{**row, "input": f"q{n}", "human_score": score} for n, score in enumerate((1, 4, 4, -1))]
    data = files("biggen_bench/human_eval_planning.jsonl", records)
    found = entry("biggen_bench", lambda row: SAID[row["instruction"].removeprefix("s\n\n")], data)
    assert (found["n"], found["excluded"]) == (3, 1)
    assert found["value"] == about(PEARSON)
