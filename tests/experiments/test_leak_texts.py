"""What the leaks read of a set: every text of any record, escaped or not, and what becomes of the other rows."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.stage import to_table
from pipelines.datasets.reading import read_rows
from pipelines.datasets.spec import RawRecord
from pipelines.experiments.leaks.config import LeaksConfig
from pipelines.experiments.leaks.plain import plain
from pipelines.experiments.leaks.sets import SET_ROW, Adapter, Sets, refuse_silent
from pipelines.experiments.leaks.texts import forms, texts_in

from .leak_rows import PROMPT, row, search, texts_file

KEYS = ("id", "messages", "role", "content", "n")


def test_every_text_of_a_record_is_found_and_short_ones_left_out(tmp_path: Path) -> None:
    value = {"id": "x-1", "messages": [{"role": "user", "content": PROMPT}, {"content": "one two three four"}], "n": 3}
    assert [one for one in texts_in(value) if one not in KEYS] == ["x-1", "user", PROMPT, "one two three four"]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(value) + "\n{broken\n")
    config = LeaksConfig(sets=[str(path)])
    first, second = read_rows(Sets(Run(tmp_path / "out"), config).readings()[0])
    assert first["texts"] == [PROMPT, "one two three four"] and json.loads(first["record"]) == value
    assert (first["file"], first["row"], first["status"]) == (str(path), "line 1", "ok")
    assert second["status"].startswith("error:invalid_json")


def test_an_expression_says_which_texts_count_and_a_bad_one_is_an_error_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"prompt": PROMPT, "answer": "one two three four"}) + "\n" + json.dumps({"n": 1}) + "\n")
    sets = Sets(Run(tmp_path / "out"), LeaksConfig(sets=[str(path)], text="record.prompt"))
    first, second = read_rows(sets.readings()[0])
    assert first["texts"] == [PROMPT]
    assert second["status"].startswith("error:text:MissingValue")
    with pytest.raises(UserError, match=r"leaks\.text: unknown name 'reccord'"):
        Sets(Run(tmp_path), LeaksConfig(sets=[str(path)], text="reccord.prompt"))
    with pytest.raises(UserError, match=r"leaks\.sets: no training set is named"):
        Sets(Run(tmp_path), LeaksConfig())


def test_what_json_lacks_is_written_as_text_or_null() -> None:
    found = plain({"a": float("nan"), 1: [0.5, None, True], "p": Path("x")})
    assert found == {"a": None, "1": [0.5, None, True], "p": "x"}


def rows_of(path: Path, **config: Any) -> list[dict[str, Any]]:
    return list(read_rows(Sets(Run(path.parent / "out"), LeaksConfig(sets=[str(path)], **config)).readings()[0]))


def written(folder: Path, *records: Any) -> Path:
    path = folder / "set.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records))
    return path


def test_bytes_are_read_as_utf8_and_none_are_invented(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"prompt": [PROMPT.encode(), b"\xff\xfe"], "n": [1, 2]}), path)
    first, second = rows_of(path)
    assert first["texts"] == [PROMPT] and json.loads(first["record"]) == {"prompt": PROMPT, "n": 1}
    assert second["status"] == "error:invalid_utf8" and second["texts"] == []
    first, second = rows_of(path, text="record.prompt.upper()")
    assert first["texts"] == [PROMPT.upper()]


def test_a_number_that_json_cannot_hold_is_an_error_row(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"p": "five words of clean text", "n": 1e400}\n{"p": "five words of clean text", "n": NaN}\n')
    first, second = rows_of(path)
    assert first["status"].startswith("error:not_json:a number beyond") and first["texts"] == []
    assert json.loads(second["record"])["n"] is None


def test_rows_too_deep_to_look_into_are_errors(tmp_path: Path) -> None:
    deep: Any = PROMPT
    for _ in range(5000):
        deep = [deep]
    adapter = Adapter(None, 4)
    spec = Sets(Run(tmp_path), LeaksConfig(sets=[str(written(tmp_path, {}))])).spec
    (found,) = adapter(spec, RawRecord("0000.000000000", "a.jsonl line 1", {"deep": deep}, "a"))
    assert found["status"].startswith("error:")


def test_a_file_of_which_nothing_would_be_compared_is_refused(tmp_path: Path) -> None:
    tokens, silent = [row(name=f"0000.00000000{n}") | {"file": "ids.jsonl"} for n in range(2)], row("", name="0001.0")
    broken = row(name="0002.0") | {"file": "b.jsonl", "status": "error:invalid_json"}
    (tmp_path / "fine").mkdir()
    pq.write_table(to_table([row(PROMPT), silent | {"texts": []}], SET_ROW), tmp_path / "fine" / "a.parquet")
    refuse_silent(tmp_path / "fine", 4)
    for name, rows, said in (
        ("tokens", tokens, r"^ids\.jsonl: none of its 2 rows has a text of 4 words or more to compare \(leave"),
        ("broken", [broken], r"^b\.jsonl: none of its 1 rows .* 1 of them errors such as invalid_json"),
    ):
        (tmp_path / name).mkdir()
        pq.write_table(to_table([row(PROMPT), *rows], SET_ROW), tmp_path / name / "a.parquet")
        with pytest.raises(UserError) as refused:
            refuse_silent(tmp_path / name, 4)
        assert re.search(said, str(refused.value)) and "\n" not in str(refused.value)


LISTED = (
    'Please help me with the budget for:\n- the venue\n- the café & the drinks\n- music, speeches "and" <all> of it'
)
ESCAPED = {
    "entities": html.escape(LISTED).replace("\n", "<br>").replace(" ", "&nbsp;"),
    "escaped twice": html.escape(html.escape(LISTED)).replace(" ", "&amp;nbsp;"),
    "numeric": "".join(f"&#{ord(letter)};" for letter in LISTED),
    "paragraphs": "<p>"
    + html.escape(LISTED).replace("\n", '</p>\n<p class="x">').replace(" the ", " the <b></b>")
    + "</p>",
    "json": json.dumps([{"role": "user", "content": LISTED}]),
    "json in json": json.dumps({"m": json.dumps([{"content": LISTED}])}),
    "json within a text": f"The input is {json.dumps({'prompt': LISTED})} and no more.",
    "python": f"The input is {[LISTED]!r} and no more.",
    "escaped letters": "".join(f"\\u{ord(letter):04x}" for letter in LISTED),
}


@pytest.mark.parametrize("name", ESCAPED)
def test_a_prompt_is_found_whatever_it_was_escaped_for(name: str, tmp_path: Path) -> None:
    (read,) = rows_of(written(tmp_path, {"a": ESCAPED[name]}))
    texts = texts_file(tmp_path, ours=LISTED)
    (found,) = search(texts, read)
    assert found["status"].startswith("filtered:leak:ours") and json.loads(found["record"]) == {"a": ESCAPED[name]}
    assert found["overlaps"][0]["score"] > 0.8


def test_text_without_escapes_has_one_form() -> None:
    assert list(forms("Is 1 \u2264 2, and why?")) == ["Is 1 \u2264 2, and why?"]
    assert list(texts_in("[1, 2] and [no JSON")) == ["[1, 2] and [no JSON"]
    assert [*forms(r"half \ud83d\ude00 \ud83d")][1] == "half \U0001f600 \ufffd"


def test_keys_and_a_header_that_is_a_prompt_are_compared_and_so_is_a_list_of_words(tmp_path: Path) -> None:
    texts = texts_file(tmp_path, ours=PROMPT)
    path = tmp_path / "a.csv"
    path.write_text(f'"{PROMPT}",5\n"some other text of words",3\n')
    key, cut = rows_of(written(tmp_path, {PROMPT: "an answer of five words"}, {"tokens": PROMPT.split()}))
    for found in search(texts, *rows_of(path), key, cut):
        assert found["status"] == "filtered:leak:ours:exact"
