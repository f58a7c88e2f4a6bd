"""Cleaning: each rule alone, what must survive it, and the rules in their order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from pipelines.core.records import EXAMPLE
from pipelines.core.stage import apply_stages, check_columns
from pipelines.curation.clean import NotExcludedSplit, Script, ValidUnicode, cleaning_stages
from pipelines.curation.config import CleanConfig
from pipelines.curation.registry import load_source
from pipelines.datasets.reading import ingest_rows

GOOD: dict[str, Any] = {
    "raw_id": "s:1",
    "row_id": "abc",
    "source": "s",
    "task": "pairwise",
    "instruction": "Say hello.",
    "context": None,
    "responses": ["Hello.", "Goodbye."],
    "reference": None,
    "rubric": None,
    "allowed": ["A", "B"],
    "verdict": "A",
    "split": "train",
    "published": 2023,
    "status": "ok",
}


def cleaned(row: dict[str, Any], **config: Any) -> str:
    apply_stages(cleaning_stages(CleanConfig(**config)), [row])
    return row["status"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, "ok"),
        ({"instruction": None}, "filtered:null_instruction"),
        ({"instruction": " \n"}, "filtered:empty_instruction"),
        ({"responses": None}, "filtered:null_response"),
        ({"responses": ["x", None]}, "filtered:null_response"),
        ({"responses": ["\t", "x"]}, "filtered:empty_response"),
        ({"instruction": "\u200b\ufeff \u2060"}, "filtered:empty_instruction"),
        ({"responses": ["x", "\u3164\u00ad"]}, "filtered:empty_response"),
        ({"context": "", "rubric": None, "reference": ""}, "ok"),
        ({"rubric": "lost \ufffd text"}, "filtered:invalid_unicode"),
        ({"reference": "Ответ"}, "filtered:script"),
        ({"split": "test"}, "filtered:test_split"),
        ({"split": "Test"}, "filtered:test_split"),
        ({"split": "validation"}, "ok"),
        ({"split": None}, "ok"),
        ({"published": 2022}, "filtered:year"),
        ({"published": 2025}, "ok"),
        ({"published": None}, "filtered:year_unknown"),
        ({"context": "x" * 40_001}, "filtered:too_long"),
        ({"verdict": "Tie"}, "filtered:label_not_allowed"),
        ({"verdict": "a"}, "filtered:label_not_allowed"),
        ({"allowed": None}, "filtered:label_not_allowed"),
        ({"allowed": []}, "filtered:label_not_allowed"),
        ({"allowed": ["A", None]}, "error:label:null_in_allowed"),
        ({"responses": ["same", " same\n"]}, "filtered:responses_equal"),
        ({"responses": ["same", "sa\u00adme\u200b"]}, "filtered:responses_equal"),
        ({"task": "classification", "responses": ["one"], "allowed": ["A", "C"]}, "ok"),
    ],
)
def test_each_rule_filters_what_it_should(change: dict[str, Any], status: str) -> None:
    assert cleaned({**GOOD, **change}) == status


def test_the_limits_are_the_configs() -> None:
    row = {**GOOD, "published": 2020, "split": "dev", "context": "x" * 100, "rubric": "да"}
    assert cleaned(dict(row), min_year=2020, max_other_letters=2) == "ok"
    assert cleaned(dict(row), min_year=2020, max_other_letters=1) == "filtered:script"
    assert cleaned(dict(row), min_year=2020, scripts=["Latin", "Cyrillic"]) == "ok"
    assert cleaned({**GOOD, "split": "dev"}, excluded_splits=["test", "DEV"]) == "filtered:dev_split"
    assert cleaned({**GOOD, "context": "x" * 100}, max_chars=50) == "filtered:too_long"


@pytest.mark.parametrize(
    "text",
    [
        "plain text, 1 + 1 = 2; naïve café Łódź Đặng æther",
        "α + β ≠ Γ, Ἀριστοτέλης",
        "def f(x):\n\treturn {'a': [1, 2]}  # ¯\\_(ツ)_/¯".replace("ツ", "~"),
        "∑ ∫ √2 ≤ ∞ → ∂ ∈ ℝ ℵ ℏ µ Ω Å",
        "𝑎² + 𝔹 + 𝟙 𝛼𝐱",
        "🎉👩‍👩‍👧‍👦🏳️‍🌈👍🏽 ❤️ ①②③ ™ ½",
        "“quotes” – dashes… • bullets ┌─┐ ▁▂▃",
        "e\u0301 combining, \u200bzero width, \u00a0no-break, ﬁ ligature",
        "１２３ full-width digits，。",
        "Cyrillic-free: 0123456789",
    ],
)
def test_code_mathematics_and_emoji_are_no_other_script(text: str) -> None:
    assert Script(["Latin", "Greek"]).reason({**GOOD, "context": text}) is None
    assert ValidUnicode().reason({**GOOD, "context": text}) is None


@pytest.mark.parametrize("text", ["法", "Привет", "مرحبا", "नमस्ते", "こ", "カ", "안녕", "שלום", "สวัสดี", "a𐎠"])
def test_letters_of_other_scripts_are_found(text: str) -> None:
    script = Script(["Latin", "Greek"])
    assert script.reason({**GOOD, "responses": ["fine", f"fine {text} fine"]}) == "script"


@pytest.mark.parametrize(
    "text", ["\x00", "\x1b[0m", "\x7f", "\x85".replace("\x85", "\x80"), "\ufffd", "\ufffe", "\U0001ffff"]
)
def test_damaged_text_is_found(text: str) -> None:
    assert ValidUnicode().reason({**GOOD, "context": f"a{text}b"}) == "invalid_unicode"


def test_white_space_of_all_kinds_is_not_damage() -> None:
    assert ValidUnicode().reason({**GOOD, "context": "a\tb\r\nc\x0bd\x0ce\x85f\u2028g"}) is None


@settings(deadline=None)
@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_ascii_always_survives(text: str) -> None:
    row = {**GOOD, "context": text}
    assert Script(["Latin", "Greek"]).reason(row) is None
    assert ValidUnicode().reason(row) is None


def test_without_latin_even_ascii_counts() -> None:
    assert Script(["Greek"]).reason(GOOD) == "script"


def test_an_unknown_script_is_one_clear_line() -> None:
    with pytest.raises(UserError, match=r"curation\.clean\.scripts: .*Latinn"):
        cleaning_stages(CleanConfig(scripts=["Latinn"]))


def test_the_stages_need_only_columns_of_an_example() -> None:
    assert check_columns(EXAMPLE, cleaning_stages(CleanConfig())) == EXAMPLE


# What generate.py plants, and what cleaning calls it; duplicates are another test's.
PLANTED = {
    "null": "filtered:null_response",
    "empty": "filtered:empty_response",
    "script": "filtered:script",
    "test_split": "filtered:test_split",
    "year": "filtered:year",
    "label": "filtered:label_not_allowed",
    "equal_responses": "filtered:responses_equal",
    "missing_field": "error:missing_field",
}


@pytest.mark.parametrize("name", ["sample_pairwise", "sample_absolute", "sample_classification"])
def test_exactly_the_planted_flaws_leave_the_sample(name: str) -> None:
    source = load_source(name)
    planted = source.model_copy(update={"extra": {"planted": "record.planted"}})
    rows = list(ingest_rows(planted, None))
    apply_stages(cleaning_stages(CleanConfig()), rows)
    for row in rows:
        expected = PLANTED.get(row["planted"], "ok")
        assert row["status"].startswith(expected), (row["planted"], row["status"], row["instruction"])
    assert Counter(row["status"] for row in rows)["ok"] >= 40


@pytest.mark.parametrize("script", ["Latin}]", "Latin\\p{L}", ""])
def test_a_script_is_a_name_and_no_pattern(script: str) -> None:
    with pytest.raises(UserError, match="is no name"):
        cleaning_stages(CleanConfig(scripts=[script]))


def test_spaces_around_a_split_do_not_let_it_in() -> None:
    assert NotExcludedSplit([" Test"]).reason({"split": " test "}) == "test_split"
