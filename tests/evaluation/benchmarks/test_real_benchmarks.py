"""The packaged benchmarks on the real files: row counts, labels and parts as published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import UserError
from pipelines.datasets.readers import inputs
from pipelines.evaluation.asking.benchmark_rows import benchmark_examples
from pipelines.evaluation.benchmarks.registry import BENCHMARKS, PAPER_BENCHMARKS
from pipelines.evaluation.report.page import render_report
from pipelines.evaluation.scoring.agreement import agreement
from pipelines.evaluation.scoring.results import summarise
from pipelines.evaluation.scoring.score import partial_reasons

# Rows, gold verdicts (or None where they are scores) and statuses other than ok.
PUBLISHED = {
    "hhh_alignment": (221, {"A": 221}, {}),
    "evalbiasbench": (80, {"A": 80}, {}),
    "auto_j": (1392, {"A": 520, "B": 499, "Tie": 373}, {}),
    "lfqa": (260, {"A": 140, "B": 120}, {}),
    "instrusum": (411, {"A": 227, "B": 184}, {}),
    "infobench": (930, {"Yes": 804, "No": 126}, {}),
    "llm_aggrefact": (3184, {"Yes": 501 + 285 + 400 + 111, "No": 3184 - 501 - 285 - 400 - 111}, {}),
    "mt_bench": (320, None, {}),
    "biggen_bench": (2380, None, {"filtered:no_score": 4}),
    "llmbar": (419, {"A": 206, "B": 213}, {}),
    "financebench": (2400, {"Yes": 1135, "No": 528, None: 737}, {"filtered:refusal": 737}),
    "craft_md": (540, {"Yes": 59 + 73 + 13, "No": 121 + 107 + 167}, {}),
    "reward_bench": (1403, {"A": 984 + 206, "B": 213}, {}),
}
# The paper's eleven: whole here, in part, and only on the hub.
WHOLE = {"mt_bench", "lfqa", "hhh_alignment", "evalbiasbench", "instrusum", "auto_j", "infobench"}
IN_PART = {"biggen_bench", "reward_bench", "llm_aggrefact"}
HUB_ONLY = {"flask"}
PARTS = {
    "hhh_alignment": {"harmless": 58, "helpful": 59, "honest": 61, "other": 43},
    "evalbiasbench": {
        "length bias": 17,
        "concreteness": 14,
        "empty reference": 13,
        "content_continuation": 12,
        "nested_instruction": 12,
        "familiar knowledge preference bias": 12,
    },
    "llm_aggrefact": {"AggreFact-CNN": 558, "AggreFact-XSum": 558, "Reveal": 1710, "WiCE": 358},
    "llmbar": {"Natural": 100, "Neighbor": 134, "GPTInst": 92, "GPTOut": 47, "Manual": 46},
    "craft_md": dict.fromkeys(("diagnosis", "history", "terminology"), 180),
    "reward_bench": {
        **{f"hep-{language}": 164 for language in ("cpp", "go", "java", "js", "python", "rust")},
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "mt_bench": dict.fromkeys(
        ("coding", "extraction", "humanities", "math", "reasoning", "roleplay", "stem", "writing"), 40
    ),
}


def here(name: str, data_root: Path) -> bool:
    """Whether a benchmark's files are under data_root: neither packaged nor on the hub."""
    try:
        found = inputs(BENCHMARKS.load(name), data_root)
    except UserError:
        return False
    return all(source.path is not None and not source.name.startswith("package:") for source in found)


def test_every_benchmark_whose_files_are_here_is_checked_here(data_root: Path) -> None:
    assert {name for name in BENCHMARKS.names() if here(name, data_root)} == set(PUBLISHED)


def test_seven_of_the_papers_eleven_are_whole_here_and_three_in_part(data_root: Path) -> None:
    assert set(PAPER_BENCHMARKS) == WHOLE | IN_PART | HUB_ONLY
    assert (len(WHOLE), len(IN_PART), len(HUB_ONLY)) == (7, 3, 1)
    for name in PAPER_BENCHMARKS:
        benchmark = BENCHMARKS.load(name)
        assert here(name, data_root) == (name not in HUB_ONLY)
        assert benchmark.partial == (name in IN_PART)
        assert (benchmark.hub is not None) == (name not in WHOLE)  # what is not whole here has a place where it is
        counts = {"found": benchmark.expected_n, "asked": benchmark.expected_n, "unreadable": 0}
        assert partial_reasons(counts, benchmark, None) == ([benchmark.reason] if name in IN_PART else [])
        if name in IN_PART:
            assert benchmark.whole_n is not None
            whole = {**counts, "found": benchmark.whole_n, "asked": benchmark.whole_n}
            assert partial_reasons(whole, benchmark, None) == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_loader_finds_the_published_rows(name: str, data_root: Path) -> None:
    benchmark = BENCHMARKS.load(name)
    table = benchmark_examples([name], data_root)
    rows, gold, statuses = PUBLISHED[name]
    given = table.filter([order == "given" for order in table["order"].to_pylist()])
    assert given.num_rows == benchmark.expected_n == rows
    assert Counter(s for s in table["status"].to_pylist() if s != "ok") == statuses
    assert len(set(table["judgment_id"].to_pylist())) == table.num_rows
    if benchmark.task == "pairwise":
        assert table.num_rows == 2 * rows
    if gold is not None:
        assert Counter(given["gold"].to_pylist()) == gold
    if name in PARTS:
        assert Counter(given["subset"].to_pylist()) == PARTS[name]


def test_mt_bench_prompts_are_cut_into_their_parts(data_root: Path) -> None:
    rows = benchmark_examples(["mt_bench"], data_root).to_pylist()
    marks = ("###The instruction", "###Response", "###Reference", "###Score", "###Feedback")
    for row in rows:
        for text in (row["instruction"], row["responses"][0], row["reference"], row["rubric"]):
            assert text and not any(mark in text for mark in marks)
        assert row["rubric"].startswith("[") and "Score 5:" in row["rubric"]
    scores = [float(row["gold"]) for row in rows]
    assert min(scores) >= 1 and max(scores) <= 5
    assert any(score % 1 for score in scores)  # means of three, not rounded


def test_claims_of_one_constant_instruction_are_not_one_group(data_root: Path) -> None:
    groups = set(benchmark_examples(["llm_aggrefact"], data_root)["group_id"].to_pylist())
    assert len(groups) > 1000


def test_craft_md_has_the_majority_shares_that_are_known_of_it(data_root: Path) -> None:
    rows = benchmark_examples(["craft_md"], data_root).to_pylist()
    shares = {}
    for question in ("terminology", "diagnosis", "history"):
        gold = [row["gold"] for row in rows if row["subset"] == question]
        shares[question] = round(agreement(gold, gold).majority_class or 0, 3)
    assert shares == {"terminology": 0.928, "diagnosis": 0.672, "history": 0.594}
    assert round(sum(shares.values()) / 3, 3) == 0.731
    assert len({row["group_id"] for row in rows}) == 45  # cases, each talked through by four models


@pytest.mark.integration  # whole public sets: several seconds
def test_the_authors_figures_on_real_rows(
    make_run: Callable[..., Any], two_models: dict[str, Any], data_root: Path
) -> None:
    names = ["financebench", "craft_md", "reward_bench", "llm_aggrefact", "auto_j"]
    run = make_run(two_models, names, data_root)
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    per = found.to_json()["models"]["trained"]
    assert (per["financebench"]["n"], per["financebench"]["balanced"]["n"]) == (1663, 528 + 528)
    assert per["financebench"]["balanced"]["majority_class"] == 0.5
    assert {name: part["n"] for name, part in per["craft_md"]["subsets"].items()} == PARTS["craft_md"]
    sections = per["reward_bench"]["sections"]
    assert {name: section["n"] for name, section in sections.items()} == {
        "Chat": 0,
        "Chat Hard": 419,
        "Safety": 0,
        "Reasoning": 984,
    }
    assert per["reward_bench"]["value"] == pytest.approx(
        (sections["Chat Hard"]["value"] + sections["Reasoning"]["value"]) / 2, abs=2e-6
    )
    assert per["reward_bench"]["ci_low"] < per["reward_bench"]["value"] < per["reward_bench"]["ci_high"]
    assert set(per["llm_aggrefact"]["authors"]["balanced_accuracy"]) == set(PARTS["llm_aggrefact"])
    assert per["auto_j"]["authors"]["agreement"] == per["auto_j"]["orders"]["both"]
    assert {name: entry["partial"] for name, entry in per.items()} == {
        "financebench": False,
        "craft_md": False,
        "reward_bench": True,
        "llm_aggrefact": True,
        "auto_j": False,
    }
    page = render_report(found, [], [], None)
    assert "nothing of Chat and Safety" in page and "terminology" in page
