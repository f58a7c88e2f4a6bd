"""The look at a source before a run: its first rows, labels, and why others fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import UserError
from pipelines.datasets.preview import FILES, RECORDS, preview
from tests.datasets.test_readers import dataset


def write(path: Path, records: list[Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def test_rows_labels_and_reasons_are_shown(tmp_path: Path) -> None:
    good = [{"q": f"question {n} " + "x" * 100, "n": n % 3 + 3} for n in range(6)]
    write(tmp_path / "x.jsonl", [*good, {"q": "off", "n": 9}, {"other": 1, "n": 1}, {"q": "no label", "n": None}])
    lines = preview(dataset(files=["x.jsonl"]), tmp_path)
    assert lines[0] == "first 9 rows: 7 can be used (3: 2, 4: 2, 5: 2, 9: 1 (not allowed))"
    assert lines[1].startswith("1 times error:missing_field:q:fields.instruction of source 'mine'")
    assert lines[1].endswith("there: other, n")
    assert lines[2] == "1 times filtered:null_verdict"
    assert len(lines) == 6 and all(len(line) < 300 for line in lines)
    assert lines[3].startswith("3 of 1, 2, 3, 4, 5 | instruction: question 0 xxx")


def test_every_file_is_opened_and_little_of_it_read(tmp_path: Path) -> None:
    for number in range(FILES + 2):
        write(tmp_path / f"{number:02d}.jsonl", [{"q": "q", "n": 3}] * (RECORDS + 5 if number == 0 else 1))
    lines = preview(dataset(files=["*.jsonl"]), tmp_path)
    assert lines[0].startswith(f"first {RECORDS + FILES - 1} rows, 2 further files not opened")
    (tmp_path / "01.parquet").write_bytes(b"no")
    with pytest.raises(UserError, match="not a readable parquet file"):
        preview(dataset(files=["*.parquet"]), tmp_path)


def test_what_would_stop_the_job_stops_the_look(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        preview(dataset(files=["x.jsonl"]), tmp_path)
    with pytest.raises(UserError, match=r"data_root .*gone is not a folder"):
        preview(dataset(files=["x.jsonl"]), tmp_path / "gone")
    write(tmp_path / "x.jsonl", [{"q": "q", "n": 3}])
    for changes in ({"python": "no_such_module:rows"}, {"loader": "json:no_such_function"}):
        with pytest.raises(UserError, match="cannot be imported"):
            preview(dataset(files=["x.jsonl"], **changes), tmp_path)


def test_a_hub_that_is_out_of_reach_is_said_and_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (line,) = preview(dataset(hub={"id": "nobody/nothing"}), tmp_path)
    assert line.startswith("not looked at: hub dataset nobody/nothing")
