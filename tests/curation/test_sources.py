"""The sources against real data (counts as published), and the hub forms against rows made by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.records import EXAMPLE
from pipelines.core.stage import to_table
from pipelines.curation.clean import AllowedLabel, NotNull, Script
from pipelines.curation.config import CleanConfig
from pipelines.curation.registry import load_source
from pipelines.datasets.reading import ingest_rows
from pipelines.datasets.spec import RawRecord, adapt

# Source -> (statuses, verdicts of the ok rows). From the publishers' own counts where they give them.
PUBLISHED: dict[str, tuple[dict[str, int], dict[str, int]]] = {
    "pandalm": ({"ok": 999}, {"A": 422, "B": 472, "Tie": 105}),
    "tulu1_human_eval": (
        # Three rows asked for a formula of a spreadsheet, which the answer's cell has evaluated: the text is lost.
        {"ok": 1150 - 3, "filtered:null_verdict": 152, "error:cell_error:#N/A": 1, "error:cell_error:#ERROR!": 2},
        {"A": 188 + 235 - 2, "B": 191 + 160 - 1, "Tie": 376},
    ),
    "alce_human_eval": (
        {"ok": 800, "filtered:not_a_rating": 8},
        {"5": 303, "4": 233, "3": 88, "2": 74, "1": 102},
    ),
    "halueval": ({"ok": 4507}, {"Yes": 815, "No": 3692}),
    "halueval_qa": ({"ok": 1000}, {"A": 1000}),
    "finegrained_rlhf": ({"ok": 3000}, {"Tie": 384, "A": 1577, "B": 1039}),
    "factcheck_gpt": (
        {"ok": 3305},
        {"completely support": 696, "partially support": 391, "refute": 161, "irrelevant": 2057},
    ),
    "factcheck_gpt_claims": ({"ok": 631, "filtered:needs_evidence": 30}, {"true": 472, "false": 159}),
    "bigbench_mistake": ({"ok": 2186}, {"Yes": 478, "No": 1708}),
    "mr_ben": ({"ok": 4534}, {"Yes": 1798, "No": 2736}),
    "llamafactory_dpo_en": ({"ok": 300}, {"A": 300}),
    "llamafactory_dpo_zh": ({"ok": 300}, {"A": 300}),
    "llamafactory_kto_en": ({"ok": 300}, {"Yes": 150, "No": 150}),
    "xstest": (
        {"ok": 2250},
        {"full compliance": 1091, "full refusal": 983, "partial refusal": 176},
    ),
}
# Source -> rows; their publishers give no counts of the labels.
ROWS = {"vicuna_eval": 320, "summedits": 4681, "auto_j_train": 960, "llm_rubric": 223}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_counts_and_labels_are_the_published_ones(data_root: Path, name: str) -> None:
    rows = list(ingest_rows(load_source(name), data_root))
    statuses, verdicts = PUBLISHED[name]
    assert Counter(row["status"] for row in rows) == statuses
    assert Counter(row["verdict"] for row in rows if row["status"] == "ok") == verdicts
    assert all(row["verdict"] in row["allowed"] for row in rows if row["status"] == "ok")


@pytest.mark.parametrize("name", sorted(ROWS))
def test_all_rows_are_read(data_root: Path, name: str) -> None:
    rows = list(ingest_rows(load_source(name), data_root))
    assert len(rows) == ROWS[name]
    assert all(row["status"] == "ok" for row in rows)


def turned_away(rows: list[dict[str, Any]], rule: Any) -> Counter[str]:
    reasons = (rule.reason(row) for row in rows if row["status"] == "ok")
    return Counter(reason for reason in reasons if reason)


def test_known_flaws_are_found(data_root: Path) -> None:
    def rows(name: str) -> list[dict[str, Any]]:
        return list(ingest_rows(load_source(name), data_root))

    assert turned_away(rows("pandalm"), NotNull())["empty_response"] == 29 + 25
    script = Script(CleanConfig().scripts)
    assert turned_away(rows("llamafactory_dpo_zh"), script)["script"] >= 293
    duplicates = Counter(row["content_hash"] for row in rows("factcheck_gpt"))
    assert sum(n - 1 for n in duplicates.values()) == 200
    assert turned_away(rows("auto_j_train"), AllowedLabel()) == {"label_not_allowed": 7 + 3}  # halves
    splits = Counter(row["split"] for row in rows("summedits"))
    assert set(splits) == {"test", "evaluation"}


def test_a_whole_grading_prompt_is_taken_apart(data_root: Path) -> None:
    for row in ingest_rows(load_source("vicuna_eval"), data_root):
        texts = [row["instruction"], row["responses"][0], row["reference"], row["rubric"]]
        assert all(text and "###" not in text for text in texts)
        assert row["rubric"].startswith("[")
        assert "Score 5:" in row["rubric"]
    (first, *_) = ingest_rows(load_source("vicuna_eval"), data_root)
    assert first["instruction"] == "How can I improve my time management skills?"
    assert first["verdict"] == "5"  # scores 5, 5, 5


def test_no_passage_gives_its_title_twice(data_root: Path) -> None:
    (first, *_) = ingest_rows(load_source("finegrained_rlhf"), data_root)
    assert first["context"].startswith("Bloom (Troye Sivan album)\n\nBloom is the second studio album")


def test_answers_that_are_json_booleans_are_texts(data_root: Path) -> None:
    rows = list(ingest_rows(load_source("pandalm"), data_root))
    assert sum("True" in row["responses"] for row in rows) == 6


TURN = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello."}]
OTHER = [TURN[0], {"role": "assistant", "content": "Bye."}]
COMPLETIONS = [
    {"response": "good", "fine-grained_score": 4.5},
    {"response": "bad", "fine-grained_score": 1.25},
    {"response": "fair", "fine-grained_score": 3.0},
]
CRITERIA = {f"orig_score{n}_description": f"level {n}" for n in range(1, 6)}

# Source -> (a record as its publisher describes it, the responses and verdicts of its rows).
DESCRIBED: dict[str, tuple[dict[str, Any], list[tuple[list[str], str]]]] = {
    "lmsys_chatbot_arena": (
        {"winner": "tie (bothbad)", "conversation_a": TURN, "conversation_b": OTHER},
        [(["Hello.", "Bye."], "Tie")],
    ),
    "helpsteer": (
        {"prompt": "p", "response": "r", "helpfulness": 0, "correctness": 4, "coherence": 2, "verbosity": 1},
        [(["r"], "0"), (["r"], "4"), (["r"], "2")],
    ),
    "helpsteer2": (
        {"prompt": "p", "response": "r", "helpfulness": 1, "correctness": 2, "coherence": 3, "verbosity": 1},
        [(["r"], "1"), (["r"], "2"), (["r"], "3")],
    ),
    "beavertails": (
        {"prompt": "p", "response": "r", "category": {"x": True}, "is_safe": False},
        [(["r"], "No")],
    ),
    "prm800k": (
        {
            "question": {"problem": "p", "pre_generated_steps": ["one", "two"]},
            "label": {"finish_reason": "found_error", "steps": []},
        },
        [(["one\ntwo"], "No")],
    ),
    "wikibio_gpt3": (
        {
            "gpt3_sentences": ["One.", "Two."],
            "annotation": ["accurate", "major_inaccurate"],
            "wiki_bio_text": "w",
        },
        [(["One."], "accurate"), (["Two."], "major inaccurate")],
    ),
    "commitpackft": (
        {"message": "m", "new_file": "f", "new_contents": "new", "old_contents": "old", "license": "mit"},
        [(["new", "old"], "A")],
    ),
    "feedback_collection": (
        {
            "orig_instruction": "i",
            "orig_response": "r",
            "orig_reference_answer": "a",
            "orig_criteria": "c",
            "orig_score": "4",
            **CRITERIA,
        },
        [(["r"], "4")],
    ),
    "preference_collection": (
        {
            "orig_instruction": "i",
            "orig_response_A": "a",
            "orig_response_B": "b",
            "orig_reference_answer": "r",
            "orig_criteria": "c",
            "orig_preference": "B",
        },
        [(["a", "b"], "B")],
    ),
    "offsetbias": (
        {"instruction": "i", "output_1": "a", "output_2": "b", "label": 2},
        [(["a", "b"], "B")],
    ),
    "ultrafeedback": ({"instruction": "i", "completions": COMPLETIONS}, [(["good", "bad"], "A")]),
    "codeultrafeedback": (
        {
            "instruction": "i",
            "preference": "readability",
            "responses": [{"model": "x", "response": "1"}, {"model": "y", "response": "2"}],
            "annotations": [{"model": "y", "rating": "5"}, {"model": "x", "rating": "3"}],
        },
        [(["1"], "3"), (["2"], "5")],
    ),
    "halueval": (
        {"user_query": "q", "chatgpt_response": "r", "hallucination": "yes"},
        [(["r"], "Yes")],
    ),
}


@pytest.mark.parametrize("name", sorted(DESCRIBED))
def test_hub_rows_as_described_become_examples(name: str) -> None:
    record, expected = DESCRIBED[name]
    rows = adapt(load_source(name), RawRecord("0000.000000000", "by hand", record))
    assert [row["status"] for row in rows] == ["ok"] * len(expected)
    assert [(row["responses"], row["verdict"]) for row in rows] == expected
    assert all(row["verdict"] in row["allowed"] and row["instruction"] for row in rows)
    to_table(rows, EXAMPLE)


def test_a_commit_shows_the_file_that_it_changes() -> None:
    record, _ = DESCRIBED["commitpackft"]
    (row,) = adapt(load_source("commitpackft"), RawRecord("0", "by hand", record))
    assert row["context"] == "old"


def test_equal_or_single_completions_are_no_pair() -> None:
    def status(completions: list[dict[str, Any]]) -> str:
        record = {"instruction": "i", "completions": completions}
        return adapt(load_source("ultrafeedback"), RawRecord("0", "by hand", record))[0]["status"]

    assert status(COMPLETIONS[:1]) == status([]) == "filtered:too_few_completions"
    assert status([COMPLETIONS[0], {**COMPLETIONS[0], "response": "same score"}]) == "filtered:no_difference"


def test_joined_sources_find_their_other_file(tmp_path: Path) -> None:
    folder = tmp_path / "training" / "ragtruth"
    folder.mkdir(parents=True)
    (folder / "source_info.jsonl").write_text('{"source_id": "7", "prompt": "p"}\n')
    (folder / "response.jsonl").write_text(
        '{"source_id": "7", "response": "r", "labels": [], "quality": "good", "split": "train"}\n'
        '{"source_id": "7", "response": "s", "labels": [{"text": "s"}], "quality": "good", "split": "test"}\n'
        '{"source_id": "7", "response": "t", "labels": [], "quality": "truncated", "split": "train"}\n'
    )
    rows = list(ingest_rows(load_source("ragtruth"), tmp_path))
    assert [(row["status"], row["verdict"], row["split"]) for row in rows] == [
        ("ok", "Yes", "train"),
        ("ok", "No", "test"),
        ("filtered:bad_quality", "Yes", "train"),
    ]
    folder = tmp_path / "training" / "seahorse"
    folder.mkdir()
    (folder / "articles.jsonl").write_text('{"gem_id": "x-1", "article": "a"}\n')
    (folder / "train.tsv").write_text(
        "gem_id\tworker_lang\tsummary\tmodel\t" + "\t".join(f"question{n}" for n in range(1, 7)) + "\n"
        "x-1\ten-US\ts\tm\tYes\tYes\tNo\tYes\tNo\tYes\n"
        "x-1\ten-US\ts\tm\tNo\t\t\t\t\t\n"
        "x-1\tde\ts\tm\tYes\tYes\tYes\tYes\tYes\tYes\n"
    )
    rows = list(ingest_rows(load_source("seahorse"), tmp_path))
    assert Counter(row["status"] for row in rows) == {
        "ok": 7, "filtered:null_verdict": 5, "filtered:not_english": 6,
    }  # fmt: skip
    assert [row["verdict"] for row in rows[:6]] == ["Yes", "Yes", "No", "Yes", "No", "Yes"]
