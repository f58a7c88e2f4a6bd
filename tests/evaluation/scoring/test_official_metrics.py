"""The official metrics of benchmarks, each on a case computed by hand: packaged YAML, small files, a judge by rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.evaluation.scoring.metrics.registry import official_metrics
from pipelines.evaluation.scoring.orders import order_protocols
from pipelines.evaluation.scoring.verdict_tables import balanced

Row = dict[str, Any]


def about(value: float) -> Any:
    return pytest.approx(value, abs=1e-6)  # results.json keeps six decimals


def test_auto_j_agreement_and_consistency(files: Callable, entry: Callable) -> None:
    labels = {"q1": 0, "q2": 1, "q3": 2, "q4": 0, "q5": 1}  # A, B, Tie, A, B
    records = [
        {"prompt": name, "response 1": "x", "response 2": "y", "label": label, "scenario": "s"}
        for name, label in labels.items()
    ]
    said = {
        "q1": ("A", "B"),  # right in both orders
        "q2": ("A", "B"),  # wrong in both, and consistent
        "q3": ("Tie", "Tie"),  # right in both
        "q4": ("A", "A"),  # always the first: right once, not consistent
        "q5": ("B", None),  # right once; an unread verdict is not consistent with anything
    }
    found = entry("auto_j", said, files("auto_j/testdata_pairwise.jsonl", records))
    assert found["authors"] == {"agreement": 2 / 5, "consistency": 3 / 5}
    assert found["value"] == 3 / 5
    assert found["position_consistency"] == 3 / 4  # over pairs read twice


def test_auto_j_needs_both_orders() -> None:
    one = pd.DataFrame({"right_given": [True], "verdict_given": ["A"], "points": [1.0], "gold": ["A"]})
    assert official_metrics()["auto_j"].figures(one, BENCHMARKS.load("auto_j"), 0) == {
        "agreement": None,
        "consistency": None,
    }
    assert official_metrics()["judge_bench"].figures(one, BENCHMARKS.load("judge_bench"), 0) == {"correct": None}


def test_judge_bench_more_right_than_wrong(hub: Callable, entry: Callable) -> None:
    labels = {"q1": "A>B", "q2": "A>B", "q3": "A>B", "q4": "A>B", "q5": "B>A", "q6": "B>A"}
    sources = [
        "mmlu-pro-law",
        "livebench-reasoning",
        "livebench-math",
        "livecodebench",
        "mmlu-pro-math",
        "livecodebench",
    ]
    asked = hub(
        [
            {"question": name, "response_A": "x", "response_B": "y", "label": label, "source": source}
            for (name, label), source in zip(labels.items(), sources, strict=True)
        ]
    )
    said = {
        "q1": ("A", "B"),  # right twice
        "q2": ("A", None),  # right, and one that says nothing: right
        "q3": ("A", "A"),  # one right, one wrong: inconsistent
        "q4": (None, None),
        "q5": (None, "A"),  # right
        "q6": ("A", None),  # wrong
    }
    found = entry("judge_bench", said)
    assert found["authors"] == {"correct": 3 / 6}
    assert found["value"] == about(2.5 / 6)
    assert set(found["subsets"]) == {"knowledge", "reasoning", "math", "coding"}
    assert asked == [("ScalerLab/JudgeBench", None, "gpt")]


def reward_bench_records() -> list[Row]:
    subsets = {
        "right-1": "alpacaeval-easy",
        "wrong-2": "mt-bench-med",
        "right-3": "llmbar-natural",
        "right-4": "mt-bench-hard",
        "right-5": "llmbar-adver-manual",
        "unread-6": "llmbar-adver-GPTOut",
        "right-7": "donotanswer",
        "right-8": "math-prm",
        "wrong-9": "math-prm",
        "right-10": "hep-python",
    }
    return [{"prompt": name, "chosen": "x", "rejected": "y", "subset": sub, "id": 1} for name, sub in subsets.items()]


def by_name(row: Row) -> str | None:
    """Right, wrong or unread in both orders, as the instruction says."""
    other = {"A": "B", "B": "A"}
    return {"right": row["gold"], "wrong": other[row["gold"]], "unread": None}[row["instruction"].split("-")[0]]


def test_reward_bench_sections(hub: Callable, entry: Callable) -> None:
    asked = hub(reward_bench_records())
    found = entry("reward_bench", by_name)
    weight = 984 / 447
    reasoning = (weight * 1 + 1) / (weight * 2 + 1)
    assert {name: section["value"] for name, section in found["sections"].items()} == {
        "Chat": 1 / 2,
        "Chat Hard": 3 / 4,  # here an unread verdict is wrong
        "Safety": 1,
        "Reasoning": about(reasoning),
    }
    assert found["value"] == about((1 / 2 + 3 / 4 + 1 + reasoning) / 4)
    assert found["accuracy"] == 7 / 10
    assert asked == [("allenai/reward-bench", None, "filtered")]
    # One order a pair, here the same in both; an unread verdict is half a point.
    hard = 3.5 / 4
    assert found["authors"] == {
        "Chat": 1 / 2,
        "Chat Hard": hard,
        "Safety": 1,
        "Reasoning": about(reasoning),
        "overall": about((1 / 2 + hard + 1 + reasoning) / 4),
    }


def test_reward_bench_judges_each_pair_in_one_order() -> None:
    lines = pd.DataFrame(
        {
            "subset": "hep-go",
            "right_given": [True] * 400,
            "right_swapped": [False] * 400,
            "verdict_given": ["A"] * 400,
            "verdict_swapped": ["A"] * 400,
        },
        index=[f"r{number}" for number in range(400)],
    ).assign(points=0.5)
    benchmark = BENCHMARKS.load("reward_bench")
    drawn = official_metrics()["reward_bench"].figures(lines, benchmark, 0)["overall"]
    assert drawn == order_protocols(lines, seed=0)["random"]
    assert drawn != 0.5 and abs(drawn - 0.5) < 0.08


def test_a_part_of_reward_bench_shows_its_sections_and_is_partial(files: Callable, entry: Callable) -> None:
    code = {
        "instruction": "right-code",
        "prompt": "p",
        "canonical_solution": "x",
        "buggy_solution": "y",
        "task_id": "Rust/0",
    }
    files("humanevalpack/rust_humanevalpack.jsonl", [code, {**code, "instruction": "wrong-code"}])
    pair = {"input": "right-pair", "output_1": "x", "output_2": "y", "label": "2"}
    data = files("llmbar/LLMBar__Adversarial__GPTInst__dataset.json", [pair])
    found = entry("reward_bench", by_name, data)
    assert {name: section["value"] for name, section in found["sections"].items()} == {
        "Chat": None,
        "Chat Hard": 1,
        "Safety": None,
        "Reasoning": 0.5,
    }
    assert set(found["subsets"]) == {"hep-rust", "llmbar-adver-GPTInst"}
    assert found["value"] == 0.75 and found["partial"]
    assert "nothing of Chat and Safety" in found["partial_reasons"][0]
    assert "HumanEvalPack" in found["to_confirm"] and "data card" not in found["to_confirm"]


def test_rm_bench_easy_normal_and_hard(hub: Callable, entry: Callable) -> None:
    styles = ["concise", "detailed", "markdown"]
    hub(
        [
            {
                "id": domain,
                "prompt": domain,
                "chosen": [f"{at} chosen" for at in range(3)],
                "rejected": [f"{at} rejected" for at in range(len(styles))],
                "domain": domain,
            }
            for domain in ("chat", "math")
        ]
    )

    def likes_style(row: Row) -> str:
        """On chat the more elaborate response, the right one where they are alike; on math always the first."""
        first, second = (int(text[0]) for text in row["responses"])
        if row["instruction"] == "math":
            return "A"
        return str(row["gold"]) if first == second else "A" if first > second else "B"

    found = entry("rm_bench", likes_style)
    assert found["n"] == 18
    assert found["authors"] == {
        "easy": (1 + 0.5) / 2,
        "normal": (1 + 0.5) / 2,
        "hard": (0 + 0.5) / 2,
    }
    assert found["value"] == about((6 / 9 + 0.5) / 2)
    assert found["subsets"]["chat hard"] == {"n": 3, "value": 0}


def test_reward_bench_2_is_best_of_four(hub: Callable, entry: Callable) -> None:
    def record(name: str, subset: str) -> Row:
        return {"prompt": name, "subset": subset, "chosen": ["good"], "rejected": ["bad1", "bad2", "bad3"]}

    ties = {**record("t", "Ties"), "chosen": ["red", "blue"], "rejected": ["car", "cup", "cat", "cow"]}
    hub([record("p1", "Factuality"), record("p2", "Factuality"), record("p3", "Math"), ties])

    def loses(row: Row) -> str:
        """p1 wins always; p2 loses to bad3 in one order; p3 loses to bad1 in both."""
        lost = {("p2", "bad3", "swapped"), ("p3", "bad1", "given"), ("p3", "bad1", "swapped")}
        rival = next(text for text in row["responses"] if text != "good")
        return {"A": "B", "B": "A"}[row["gold"]] if (row["instruction"], rival, row["order"]) in lost else row["gold"]

    found = entry("reward_bench_2", loses)
    assert found["n"] == 3 and found["judgments"] == 18
    assert (found["found"], found["asked"], found["excluded"], found["unreadable"]) == (10, 10, 1, 0)
    assert found["subsets"] == {"Factuality": {"n": 2, "value": 0.75}, "Math": {"n": 1, "value": 0}}
    assert found["value"] == (0.75 + 0) / 2
    assert found["orders"]["order1"] == about(2 / 3) and found["orders"]["order2"] == about(1 / 3)
    assert found["position_consistency"] == about(8 / 9)  # of pairs, not of prompts
    assert found["value_parsed_only"] is None
    assert found["partial_reasons"][0].startswith("the Ties subset")


def test_llm_aggrefact_mean_of_balanced_accuracies(files: Callable, entry: Callable) -> None:
    claims = [{"dataset": "AggreFact-CNN", "doc": f"d{n}", "claim": "c", "label": int(n > 0)} for n in range(4)]
    files("llm_aggrefact/derived/AggreFact-CNN.jsonl", claims)
    wice = [{"evidence": ["e1"], "claim": "c", "label": "supported"}]
    wice += [{"evidence": ["e2"], "claim": "c", "label": "partially_supported"}]
    data = files("wice/claim_test.jsonl", wice)
    found = entry("llm_aggrefact", lambda row: "No" if row["context"] == "e2" else "Yes", data)
    # CNN: 3 of 3 supported claims, 0 of 1 unsupported; WiCE: both.
    assert found["authors"] == {
        "balanced_accuracy": {"AggreFact-CNN": 0.5, "WiCE": 1},
        "mean_balanced_accuracy": 0.75,
    }
    assert found["value"] == about(5 / 6)
    assert found["subsets"]["AggreFact-CNN"]["balanced_accuracy"] == 0.5


def test_financebench_whole_and_balanced(files: Callable, entry: Callable) -> None:
    setting = {"model_name": "m", "eval_mode": "e"}
    labels = ["Correct Answer"] * 5 + ["Incorrect Answer"] * 2 + ["Refusal"]
    records = [
        {"question": f"q{n}", "model_answer": "a", "gold_answer": n, "label": label, **setting}
        for n, label in enumerate(labels)
    ]
    found = entry("financebench", lambda row: "Yes", files("financebench/results_x.jsonl", records))
    assert (found["n"], found["excluded"]) == (7, 1)
    assert found["value"] == found["majority_class"] == about(5 / 7)
    assert found["balanced"] == {
        "n": 4,
        "accuracy": 0.5,
        "balanced_accuracy": 0.5,
        "macro_f1": about(1 / 3),  # Yes: precision 1/2, recall 1; No: 0
        "kappa": 0,
        "majority_class": 0.5,
    }


def test_the_balanced_rows_are_the_same_for_every_model() -> None:
    gold = ["Yes"] * 300 + ["No"] * 40
    rows = pd.DataFrame({"gold": gold, "verdict_given": "Yes"}, index=[f"r{number}" for number in range(340)])
    kept = balanced(rows, "balanced:financebench")
    assert kept["gold"].value_counts().to_dict() == {"Yes": 40, "No": 40}
    shuffled = rows.sample(frac=1, random_state=0).assign(verdict_given="No")
    assert balanced(shuffled, "balanced:financebench").index.tolist() == kept.index.tolist()
    chosen = np.array([int(name[1:]) for name in kept.index if int(name[1:]) < 300])
    assert 100 < chosen.mean() < 200  # drawn from all of them, not from the top of the file


def test_every_set_of_official_metrics_has_its_benchmark() -> None:
    used = {BENCHMARKS.load(name).authors: name for name in BENCHMARKS.names() if BENCHMARKS.load(name).authors}
    assert used == {name: name for name in official_metrics()}
