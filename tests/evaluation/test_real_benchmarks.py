"""The packaged benchmarks on the real files: row counts, labels and parts as published."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipelines.evaluation import registry
from pipelines.evaluation.examples import benchmark_examples

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
}
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
    "mt_bench": dict.fromkeys(
        ("coding", "extraction", "humanities", "math", "reasoning", "roleplay", "stem", "writing"), 40
    ),
}


def test_every_benchmark_on_local_files_is_checked_here() -> None:
    on_disk = {n for n in registry.names() if not registry.load(n).files[0].startswith("package:")}
    assert on_disk == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_loader_finds_the_published_rows(name: str, data_root: Path) -> None:
    benchmark = registry.load(name)
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
