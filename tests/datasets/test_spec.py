"""Dataset specifications: raw records become rows with every column and a status, and nothing is raised for a row."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from pipelines.core.records import EXAMPLE, content_hash, row_id
from pipelines.core.stage import to_table
from pipelines.core.yaml_model import parse_model
from pipelines.datasets import columns
from pipelines.datasets.spec import DatasetSpec, RawRecord, adapt

PAIR = {
    "name": "mine",
    "task": "pairwise",
    "files": ["x.jsonl"],
    "license": "MIT",
    "published": 2024,
    "allowed": ["A", "B", "Tie"],
    "fields": {
        "instruction": "record.q",
        "responses": "[record['response 1'], record['response 2']]",
        "verdict": "{1: 'A', 2: 'B', 0: 'Tie'}[record.label]",
    },
}
GOOD = {"q": "What?", "response 1": "This.", "response 2": "That.", "label": 1}


def dataset(**changes: Any) -> DatasetSpec:
    """PAIR with some keys changed; `fields` is merged."""
    raw = {**PAIR, **changes, "fields": {**PAIR["fields"], **changes.get("fields", {})}}
    return parse_model(DatasetSpec, raw, where="mine.yaml")


def rows(record: Any, **changes: Any) -> list[dict[str, Any]]:
    return adapt(dataset(**changes), RawRecord("0000.000000003", "x.jsonl line 4", record, "x"))


def test_a_good_record_fills_every_column() -> None:
    (row,) = rows(GOOD, fields={"context": "'c'", "rubric": "'r'"})
    assert list(row) == EXAMPLE.names
    assert row["status"] == "ok"
    assert row["raw_id"] == "mine:0000.000000003"
    assert (row["instruction"], row["responses"], row["verdict"]) == ("What?", ["This.", "That."], "A")
    assert (row["context"], row["rubric"], row["reference"]) == ("c", "r", None)
    assert (row["source"], row["license"], row["published"], row["split"]) == ("mine", "MIT", 2024, "train")
    assert row["content_hash"] == content_hash(row)
    assert row["row_id"] == row_id(row)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"q": None}, "ok"),  # cleaning's business: a benchmark keeps such rows
        ({"label": None}, "filtered:null_verdict"),
        ({"label": 3}, "error:mapping:verdict"),
        ({"label": 3}, "error:mapping:verdict:not_in_its_table: 3; the table has 1, 2, 0"),
        ({"label": [1]}, "error:mapping:verdict"),
        ({"response 1": True}, "error:mapping:responses"),
        ({"response 2": {"text": "x"}}, "error:mapping:responses"),
    ],
)
def test_a_flaw_becomes_a_status(change: dict[str, Any], status: str) -> None:
    (row,) = rows({**GOOD, **change})
    assert row["status"] == status or row["status"].startswith(f"{status}:")


@pytest.mark.parametrize("name", ["q", "response 1", "label"])
def test_a_missing_field_is_named(name: str) -> None:
    record = {key: value for key, value in GOOD.items() if key != name}
    (row,) = rows(record)
    asks = {"q": "instruction", "response 1": "responses", "label": "verdict"}[name]
    there = ", ".join(key for key in GOOD if key != name)
    told = f"fields.{asks} of source 'mine' asks for it; there: {there}"
    assert row["status"] == f"error:missing_field:{name}:{told}"
    assert row["instruction"] == record.get("q")  # what can be filled is, for whoever reads the quarantine


@pytest.mark.parametrize("record", [None, 5, "text", [], [1, 2], {}])
def test_a_record_of_another_shape_is_an_error_row(record: Any) -> None:
    (row,) = rows(record)
    assert row["status"].startswith("error:")


def test_where_turns_away_with_its_reason_before_fields_can_fail() -> None:
    where = {"other_language": "record.lang == 'en'"}
    assert rows({**GOOD, "lang": "de"}, where=where)[0]["status"] == "filtered:other_language"
    assert rows({"lang": "de"}, where=where)[0]["status"] == "filtered:other_language"
    assert rows({**GOOD, "lang": "en"}, where=where)[0]["status"] == "ok"
    assert rows(GOOD, where=where)[0]["status"].startswith("error:missing_field:lang:where.other_language of")


def test_each_expands_a_record_into_numbered_rows() -> None:
    expanded = rows(
        {"q": "What?", "answers": ["x", "y", "z"], "votes": [1, 2]},
        each="[[0, 1], [0, 2]]",
        fields={
            "responses": "[record.answers[item[0]], record.answers[item[1]]]",
            "verdict": "{1: 'A', 2: 'B'}[record.votes[index]]",
        },
    )
    assert [row["raw_id"] for row in expanded] == ["mine:0000.000000003:0000", "mine:0000.000000003:0001"]
    assert [(row["responses"], row["verdict"]) for row in expanded] == [(["x", "y"], "A"), (["x", "z"], "B")]


def test_each_over_a_mapping_gives_keys() -> None:
    expanded = rows({"q": "?", "by": {"p": 1, "r": 2}}, each="record.by", fields={
        "responses": "[key, key]", "verdict": "{1: 'A', 2: 'B'}[item]",
    })  # fmt: skip
    assert [(row["responses"][0], row["verdict"]) for row in expanded] == [("p", "A"), ("r", "B")]


@pytest.mark.parametrize(
    ("items", "status"),
    [([], "filtered:no_items"), (None, "filtered:no_items"), ("abc", "error:mapping:each")],
)
def test_a_record_that_expands_into_nothing_still_gives_a_row(items: Any, status: str) -> None:
    (row,) = rows({**GOOD, "list": items}, each="record.list")
    assert ":".join(row["status"].split(":")[:3]) == status


def test_python_hook_expands_and_its_failure_is_a_row() -> None:
    expanded = rows(["a", "b"], python="builtins:sorted", fields={
        "instruction": "item", "responses": "[item, index ~ '']", "verdict": "'A'",
    })  # fmt: skip
    assert [row["instruction"] for row in expanded] == ["a", "b"]
    assert rows(3, python="builtins:sorted")[0]["status"].startswith("error:mapping:python:TypeError")
    for missing in ("builtins:no_such", "no_such_module:read"):
        with pytest.raises(UserError, match=f"{missing}: cannot be imported"):
            rows(3, python=missing)


def test_a_problem_of_the_reader_keeps_the_text() -> None:
    raw = RawRecord("0000.000000000", "x.jsonl line 1", '{"q": ', problem="invalid_json")
    (row,) = adapt(dataset(), raw)
    assert (row["status"], row["instruction"]) == ("error:invalid_json", '{"q": ')


def test_fields_replace_constants() -> None:
    (row,) = rows(
        {**GOOD, "tie": False, "year": "2019"},
        fields={
            "allowed": "['A', 'B', 'Tie'] if record.tie else ['A', 'B']",
            "published": "record.year",
            "split": "'test'",
            "license": "'CC0'",
        },
    )
    assert (row["allowed"], row["published"], row["split"], row["license"]) == (
        ["A", "B"],
        2019,
        "test",
        "CC0",
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(4, "4"), (4.0, "4"), (6.5, "6.5"), (math.nan, None), ("x", "x"), (2**60 + 1, str(2**60 + 1))],
        *[(Decimal("4.00"), "4"), (Decimal("4.50"), "4.5"), (Decimal("NaN"), None), (Decimal("1e2"), "100")],
    ],
)
def test_numbers_become_texts(value: Any, text: str | None) -> None:
    (row,) = rows({**GOOD, "q": value})
    assert row["instruction"] == text


@pytest.mark.parametrize(
    "value",
    [math.inf, 2.0**53, Decimal("Infinity"), True, b"text", date(2024, 1, 2), {"text": "x"}, ["x"], (1,)],
)
def test_what_is_no_text_is_an_error_and_no_literal(value: Any) -> None:
    (row,) = rows({**GOOD, "q": value})
    assert row["status"].startswith("error:mapping:instruction:") and row["instruction"] is None


@pytest.mark.parametrize("value", [{"a": 1, "b": 2}, b"ab", "ab", {"x", "y"}, None, 3])
def test_what_is_no_list_gives_no_responses(value: Any) -> None:
    (row,) = rows({**GOOD, "r": value}, fields={"responses": "record.r"})
    assert row["status"].startswith("error:mapping:responses:TypeError") and row["responses"] is None


@pytest.mark.parametrize(
    ("value", "year"),
    [
        *[(2024, 2024), ("2024", 2024), (2024.0, 2024), (date(2024, 5, 1), 2024), (datetime(2024, 5, 1, 3), 2024)],
        *[(math.nan, None), (None, None), (2024.5, "error"), (True, "error"), ("", "error"), ("May 2024", "error")],
        *[(20240501, "error"), (1714521600, "error"), (99999999999, "error"), (24, "error")],
    ],
)
def test_a_year_is_read_and_never_made_up(value: Any, year: Any) -> None:
    (row,) = rows({**GOOD, "year": value}, fields={"published": "record.year"})
    if year == "error":
        assert row["status"].startswith("error:mapping:published:")
    else:
        assert (row["status"], row["published"]) == ("ok", year)


@pytest.mark.parametrize("label", [4, 4.0, Decimal("4.00"), "4", "4.0", "4.00", " 4"])
@pytest.mark.parametrize("fields", [{}, {"allowed": "record.scale"}])
def test_equal_numbers_are_equal_labels(label: Any, fields: dict[str, str]) -> None:
    (row,) = rows(
        {"q": "q", "r": "r", "label": label, "scale": ["5", 4.0, Decimal("3.00")]},
        task="absolute",
        allowed="1..5",
        fields={"responses": "[record.r]", "verdict": "record.label", **fields},
    )
    assert (row["status"], row["verdict"]) == ("ok", "4")
    assert row["allowed"] == (["3", "4", "5"] if fields else ["1", "2", "3", "4", "5"])


@pytest.mark.parametrize(
    ("task", "allowed", "says"),
    [
        ("pairwise", ["model_a", "model_b", "tie"], "map model_a -> A, model_b -> B, tie -> Tie"),
        ("pairwise", ["A", "B", None], "one is null"),
        ("absolute", ["bad", "good", "best"], "map bad -> 1, good -> 2, best -> 3"),
        ("classification", ["Yes", "yes"], "differ in letter case"),
    ],
)
def test_a_row_s_own_closed_set_must_suit_its_task(task: str, allowed: list[Any], says: str) -> None:
    responses = "[record.q, record.q]" if task == "pairwise" else "[record.q]"
    standard = {"pairwise": ["A", "B"], "absolute": "1..5", "classification": ["Yes", "No"]}[task]
    (row,) = rows(
        {"q": "q", "own": allowed},
        task=task,
        allowed=standard,
        fields={"responses": responses, "verdict": "record.own[0]", "allowed": "record.own"},
    )
    assert row["status"].startswith("error:unusable_verdicts:") and says in row["status"]


@pytest.mark.parametrize("flag", ["False", "no", "0"])
def test_a_text_that_says_false_does_not_let_a_row_pass(flag: str) -> None:
    (row,) = rows({**GOOD, "keep": flag}, where={"left_out": "record.keep"})
    assert row["status"].startswith("error:mapping:where.left_out:ValueError: the text")


def test_lone_surrogates_are_filtered_and_can_be_stored() -> None:
    (row,) = rows({**GOOD, "response 2": "bad \ud83d end"})
    assert row["status"] == "filtered:invalid_unicode"
    assert row["responses"][1] == "bad \ufffd end"
    to_table([row], EXAMPLE)


def test_extra_columns_are_added_to_those_of_an_example() -> None:
    (row,) = rows({**GOOD, "kind": "math"}, extra={"category": "record.kind"})
    assert row["category"] == "math"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"fields": {"instruction": "record."}}, ["fields.instruction", "not an expression"]),
        ({"fields": {"rubric": "rec.x"}}, ["fields.rubric", "unknown name 'rec'"]),
        ({"fields": {"instructions": "record.q"}}, ["unknown key 'fields.instructions'"]),
        ({"where": {"Not So": "true"}}, ["the reason 'Not So'"]),
        ({"allowed": [True, False]}, ["quote 'Yes' and 'No'"]),
        ({"allowed": ["A"]}, ["key 'allowed': name at least two verdicts, got ['A']"]),
        ({"allowed": ["A", "A"]}, ["the verdict 'A' is there twice"]),
        ({"allowed": ["model_a", "model_b", "tie"]}, ["key 'allowed': ", "map model_a -> A, model_b -> B, tie -> Tie"]),
        ({"task": "absolute", "allowed": ["bad", "good"]}, ["map bad -> 1, good -> 3"]),
        ({"task": "absolute", "allowed": [1, 1.5, 2]}, ["map 1 -> 2, 1.5 -> 3, 2 -> 4"]),
        ({"task": "absolute", "allowed": "3..3"}, ["at least two"]),
        ({"task": "classification", "allowed": ["Yes", ""]}, ["a verdict is empty"]),
        ({"task": "classification", "allowed": ["Yes", None]}, ["none of them null"]),
        ({"task": "absolute", "allowed": "0..1000000000"}, ["at most 1000"]),
        ({"task": "classification", "allowed": [["a"], "b"]}, ["list where a text is needed"]),
        ({"allowed": {"a": 1}}, ["must be a list of verdicts"]),
        ({"name": "a:b"}, ["key 'name'"]),
        ({"files": []}, ["give files, hub or both"]),
        ({"task": "ranking"}, ["key 'task'"]),
        ({"each": "record.x", "python": "m:f"}, ["each or python"]),
        ({"python": "m.f"}, ["python must be module:function"]),
        ({"loader": "m.f"}, ["loader must be module:function"]),
        ({"loader": "m:f", "files": [], "hub": {"id": "x/y"}}, ["a loader needs files"]),
        ({"extra": {"verdict": "record.q"}}, ["extra.verdict"]),
        ({"published": 24}, ["key 'published'", "greater than or equal to 1900, got 24"]),
        ({"published": True}, ["key 'published'"]),
        ({"encoding": "base64"}, ["no such encoding"]),
        ({"licence": "MIT"}, ["unknown key 'licence'", "license"]),
    ],
)
def test_a_wrong_specification_is_one_clear_line(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        dataset(**changes)
    message = str(caught.value)
    assert message.startswith("mine.yaml: ")
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_allowed_takes_a_range_and_numbers() -> None:
    def allowed(value: Any) -> list[str]:
        return dataset(task="absolute", allowed=value).allowed

    assert allowed("1..5") == allowed("5..1") == allowed([5, 4.0, "3", "2.0", 1]) == ["1", "2", "3", "4", "5"]
    assert allowed("-1..1") == ["-1", "0", "1"]
    assert allowed([10, 9, 0]) == ["0", "9", "10"]
    assert dataset(task="classification", allowed=[0, 1.0]).allowed == ["0", "1"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["q", "response 1", "response 2", "label", "list"]), JSON))
def test_any_record_gives_rows_that_can_be_stored(record: dict[str, Any]) -> None:
    for each in (None, "record.list"):
        adapted = rows(record, each=each)
        assert adapted
        assert all(set(row) == set(EXAMPLE.names) for row in adapted)
        assert to_table(adapted, EXAMPLE).num_rows == len(adapted)
        assert len({row["raw_id"] for row in adapted}) == len(adapted)


@pytest.mark.parametrize(
    ("written", "year"),
    [("2024-05-01", 2024), ("2024-05-01T10:00:00Z", 2024), (" 2023 ", 2023), (2024.0, 2024)],
)
def test_a_year_is_read_out_of_a_date_as_files_write_it(written: Any, year: int) -> None:
    assert columns.year(written) == year


@pytest.mark.parametrize("written", ["May 2024", "1714521600", "20_24", "12/05/2024"])
def test_what_names_no_year_for_certain_is_none(written: str) -> None:
    with pytest.raises(ValueError, match="is not a year"):
        columns.year(written)
