"""Requests out of files: the API's own names, a mapping, and rows that make no request."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.core.errors import UserError
from pipelines.core.records import Row
from pipelines.core.run import Run
from pipelines.datasets.reading import read_rows, survey
from pipelines.judge_job.config import JudgeConfig
from pipelines.judge_job.requests import Requests

from .conftest import LABEL, PAIR, SCORE, lines


def test_the_apis_own_names_need_no_mapping(rows_of: Callable[..., list[Row]]) -> None:
    pair, score, label = rows_of([{**PAIR, "id": "p", "context": "Short."}, {**SCORE, "id": 7}, LABEL])
    assert [row["status"] for row in (pair, score, label)] == ["ok"] * 3
    assert (pair["id"], pair["context"], pair["allowed"]) == ("p", "Short.", ["A", "B"])
    assert (score["id"], score["responses"], score["rubric"]) == ("7", ["Red."], "Is it a colour?")
    assert (label["id"], label["task"], label["allowed"]) == (None, "classification", ["Yes", "No"])
    assert (pair["template"], label["template"]) == ("pairwise_original", "classification_original")
    assert [(Path(row["file"]).name, row["row"]) for row in (pair, label)] == [
        ("in.jsonl", "line 1"),
        ("in.jsonl", "line 3"),
    ]


def test_other_columns_are_left_out_but_for_a_slip_in_a_name(rows_of: Callable[..., list[Row]]) -> None:
    others = {"task_id": 7, "source": "x", "rubrics": None, "model": "m", "criterion": "c"}
    (row,) = rows_of([{**SCORE, **others}])
    assert row["status"] == "ok"
    both, slip = rows_of([{**SCORE, "rubrics": "Other."}, {**LABEL, "contexts": "Short."}])
    assert both["status"] == "ok" and slip["status"].startswith("error:request:unknown_field:'contexts'")


def test_a_chat_becomes_the_instruction(rows_of: Callable[..., list[Row]]) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (row,) = rows_of([{"task": "absolute", "messages": chat, "response": "x"}])
    assert (row["status"], row["instruction"]) == ("ok", "User: Hi\n\nAssistant: Hello")


@pytest.mark.parametrize(
    ("record", "status"),
    [
        ("{broken", "error:invalid_json"),
        ('"text"', "error:request:no_object:a request is an object with named fields"),
        ({**PAIR, "task": None}, "error:request:no_task:give `task`, or judge.mapping.task for all rows"),
        ({**PAIR, "task": "best"}, "error:request:unknown_task:'best'; a task is one of pairwise, absolute, classify"),
        ({**PAIR, "task": ["a"]}, "error:request:unknown_task:['a']; a task is one of pairwise, absolute, classify"),
        (
            {**PAIR, "Rubrics": "Is it right?"},
            "error:request:unknown_field:'Rubrics': rename it to 'rubric', or name the columns by a mapping",
        ),
        ({**PAIR, "instruction": None}, "error:request:no_instruction:give instruction or messages"),
        ({**PAIR, "messages": [{"role": "user", "content": "x"}]}, "error:request:both_instruction_and_messages"),
        ({**PAIR, "responses": ["one"]}, "error:mapping:responses:1 responses for a pairwise row"),
        ({**PAIR, "responses": ["one", None]}, "error:request:no_response"),
        ({**PAIR, "responses": None}, "error:request:no_responses:pairwise needs responses, a list of 2"),
        ({**SCORE, "response": None}, "error:request:no_response:absolute needs response"),
        ({**SCORE, "responses": ["x"]}, "error:request:both_response_and_responses"),
        (
            {**SCORE, "criteria": [{"name": "c"}]},
            "error:request:criteria:several rubrics: give each a row",
        ),
        ({**PAIR, "id": ["x"]}, "error:request:unusable_id:list where a text is needed"),
        ({**PAIR, "context": {"a": 1}}, "error:mapping:context:TypeError: dict where a text is needed"),
    ],
)
def test_a_row_that_makes_no_request_says_why_and_leaves_its_neighbours(
    rows_of: Callable[..., list[Row]], record: Any, status: str
) -> None:
    before, bad, after = rows_of([PAIR, record, SCORE])
    assert (before["status"], after["status"]) == ("ok", "ok")
    assert bad["status"] == status
    assert bad["row"] == "line 2"


def test_a_bad_closed_set_is_the_rows_fault_and_keeps_its_id(rows_of: Callable[..., list[Row]]) -> None:
    (row,) = rows_of([{**PAIR, "id": "x", "allowed": ["First", "Second"]}])
    assert row["id"] == "x" and row["status"].startswith("error:unusable_verdicts:a pairwise verdict is A")
    (row,) = rows_of([{**PAIR, "id": "x", "task": "?"}])
    assert row["id"] == "x" and row["status"].startswith("error:request:unknown_task")


def test_equal_requests_are_rows_of_their_own(rows_of: Callable[..., list[Row]]) -> None:
    rows = rows_of([PAIR, PAIR])
    assert len({row["raw_id"] for row in rows}) == len({row["row_id"] for row in rows}) == 2


def test_a_mapping_is_in_the_language_of_sources(rows_of: Callable[..., list[Row]]) -> None:
    fields = {
        "id": "record.key",
        "instruction": "record.q",
        "responses": "[item.one, item.two] if item.two else [item.one]",
    }
    where = {"english": "record.lang == 'en'"}
    mapping = {"task": "pairwise", "each": "record.items", "where": where, "fields": fields}
    record = {"key": 4, "q": "Q", "lang": "en", "items": [{"one": "a", "two": "b"}, {"one": "c", "two": "d"}]}
    rows = rows_of([record, {**record, "lang": "de"}], mapping=mapping)
    assert [(row["id"], row["responses"], row["status"]) for row in rows] == [
        ("4", ["a", "b"], "ok"),
        ("4", ["c", "d"], "ok"),
        ("4", ["a", "b"], "filtered:english"),
        ("4", ["c", "d"], "filtered:english"),
    ]


def test_a_mapping_may_tell_the_task_of_each_record(rows_of: Callable[..., list[Row]]) -> None:
    fields = {
        "task": "'pairwise' if record.b else 'classify'",
        "instruction": "record.q",
        "responses": "[record.a, record.b] if record.b else [record.a]",
    }
    rows = rows_of([{"q": "Q", "a": "1", "b": "2"}, {"q": "Q", "a": "1", "b": None}], mapping={"fields": fields})
    assert [(row["task"], row["status"]) for row in rows] == [("pairwise", "ok"), ("classification", "ok")]
    (row,) = rows_of([{"q": "Q", "a": "1"}], mapping={"fields": fields})
    assert row["status"].startswith("error:mapping:task:")


def test_a_task_for_all_rows_gives_way_to_a_rows_own(rows_of: Callable[..., list[Row]]) -> None:
    bare = {name: value for name, value in PAIR.items() if name != "task"}
    rows = rows_of([bare, SCORE], mapping={"task": "pairwise"})
    assert [(row["task"], row["status"]) for row in rows] == [("pairwise", "ok"), ("absolute", "ok")]


def test_a_template_of_another_task_is_the_rows_fault(rows_of: Callable[..., list[Row]]) -> None:
    rows = rows_of([PAIR, SCORE], template="pairwise_compact")
    assert [row["status"] for row in rows] == ["ok", "error:request:template_is_for_pairwise"]
    assert [row["template"] for row in rows_of([PAIR, SCORE], template="compact")] == [
        "pairwise_compact",
        "absolute_compact",
    ]


def test_a_folder_of_every_kind_of_file_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "in [1]"  # a glob's characters
    (folder / "deep").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([PAIR, {**PAIR, "id": "b"}]), folder / "a.parquet")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines([SCORE]).encode()))
    with (folder / "deep" / "c.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "task", "instruction", "response", "responses", "allowed"])
        writer.writerow(["c1", "pairwise", "Q", "", json.dumps(["x", "y"]), ""])
        writer.writerow(["c2", "absolute", "Q", "x", "", '["1", "2", "3"]'])
        writer.writerow(["c3", "pairwise", "Q", "", "[broken", ""])
    (folder / "d.json").write_text(json.dumps([LABEL]))
    (folder / "e.tsv").write_text("task\tinstruction\tresponse\nclassify\tQ\tx\n")
    (folder / "_SUCCESS").write_text("")
    (folder / ".hidden.jsonl").write_text("{")
    (folder / "notes.txt").write_text("no data")
    requests = Requests(Run(tmp_path / "out"), JudgeConfig(input=str(folder)))
    rows = [row for one in requests.readings() for row in read_rows(one)]
    assert [(Path(row["file"]).name, row["row"], row["status"]) for row in rows] == [
        ("a.parquet", "row 0", "ok"),
        ("a.parquet", "row 1", "ok"),
        ("b.jsonl.gz", "line 1", "ok"),
        ("d.json", "record 0", "ok"),
        ("c.csv", "line 2", "ok"),
        ("c.csv", "line 3", "ok"),
        ("c.csv", "line 4", "error:request:unusable_responses:the cell begins like a list and is no JSON"),
        ("e.tsv", "line 2", "ok"),
    ]
    assert [row["allowed"] for row in rows if row["id"] == "c2"] == [["1", "2", "3"]]


def test_mistakes_of_the_config_are_told_before_anything_is_read(tmp_path: Path) -> None:
    def requests(**config: Any) -> Requests:
        return Requests(Run(tmp_path / "out"), JudgeConfig(**config))

    (tmp_path / "empty").mkdir()
    (tmp_path / "a.dat").write_text("{}")
    with pytest.raises(UserError, match=r"judge\.input: no input is named"):
        requests()
    with pytest.raises(UserError, match="no data file in this folder"):
        requests(input=str(tmp_path / "empty"))
    with pytest.raises(UserError, match="no such file"):
        requests(input=str(tmp_path / "*.jsonl")).readings()
    with pytest.raises(UserError, match=r"cannot tell the format from the suffix \(say it, such as judge\.mapping"):
        requests(input=str(tmp_path / "a.dat")).readings()
    assert requests(input=str(tmp_path / "a.dat"), mapping={"format": "jsonl"}).readings()
    fields = {"instruction": "recrod.q", "responses": "[]"}
    with pytest.raises(UserError, match=r"judge\.mapping: .*unknown name 'recrod'"):
        requests(input=str(tmp_path / "a.dat"), mapping={"task": "absolute", "fields": fields})
    with pytest.raises(UserError, match="no template 'orignal'"):
        requests(input=str(tmp_path / "a.dat"), template="orignal")


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["pairwise", "absolute", "classify", "[1", '["a", "b"]']),
    st.lists(st.one_of(st.none(), st.text(max_size=4), st.integers()), max_size=3),
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2),
)
NAMES = ["id", "task", "instruction", "messages", "response", "responses", "context", "rubric", "allowed", "criteria"]
RECORDS = st.one_of(VALUES, st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(RECORDS, min_size=1, max_size=5))
def test_every_record_comes_out_as_one_row_whatever_is_in_it(tmp_path: Path, records: list[Any]) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in [PAIR, *records]))
    requests = Requests(Run(tmp_path / "out"), JudgeConfig(input=str(path)))
    (reading,) = requests.readings()
    rows = list(read_rows(reading))
    assert [row["row"] for row in rows] == [f"line {number}" for number in range(1, len(records) + 2)]
    assert len({row["raw_id"] for row in rows}) == len(rows) == survey(reading, None).rows
    for row in rows:
        if row["status"] == "ok":
            assert row["instruction"] and row["template"] and None not in row["responses"]


def test_names_in_capitals_are_the_apis_own(rows_of: Callable[..., list[Row]]) -> None:
    named, twice = rows_of([{name.title() + " ": value for name, value in SCORE.items()}, {**SCORE, "Response": "x"}])
    assert (named["status"], named["responses"], named["rubric"]) == ("ok", ["Red."], "Is it a colour?")
    assert twice["status"] == "error:request:one_name_twice:'Response' and 'response'"


def test_a_row_cannot_ask_for_what_holds_for_all_rows(rows_of: Callable[..., list[Row]]) -> None:
    same, other = rows_of([{**PAIR, "both_orders": False}, {**PAIR, "both_orders": True}])
    assert same["status"] == "ok"
    assert other["status"].startswith("error:request:for_all_rows:both_orders is true here: set judge.both_orders")


def test_a_closed_set_may_be_a_range_and_a_task_in_capitals(rows_of: Callable[..., list[Row]]) -> None:
    (row,) = rows_of([{**SCORE, "task": " Absolute", "allowed": "0..3"}])
    assert (row["status"], row["allowed"]) == ("ok", ["0", "1", "2", "3"])


def test_messages_written_as_the_instruction_are_not_judged_as_text(rows_of: Callable[..., list[Row]]) -> None:
    (row,) = rows_of([{**SCORE, "instruction": json.dumps([{"role": "user", "content": "Hi"}])}])
    assert row["status"] == ("error:request:unusable_instruction:messages written as one text: call the field messages")
