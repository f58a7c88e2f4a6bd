"""What the batch judge writes: every row once, in the order of the input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.core import step
from pipelines.core.errors import LedgerError, UserError
from pipelines.core.ledger import balance, count_status
from pipelines.core.records import Row
from pipelines.core.segment import Rows
from pipelines.core.storage import read_json
from pipelines.judge_job.both_orders import JUDGMENT
from pipelines.judge_job.publish import check_output, publish
from pipelines.judge_job.requests import REQUEST

DIGESTS = {"pairwise_original": "t1", "classification_original": "t2", "model": "m"}
SHARES = [("A", 0.75), ("B", 0.25)]
JUDGED: Row = {
    "verdict": "A",
    "critique": "so",
    "probabilities": SHARES,
    "parse_status": "ok",
    "orders": [{"order": "given", "verdict": "A", "critique": "so", "probabilities": SHARES, "parse_status": "ok"}],
    "prompt_tokens": 10,
    "output_tokens": 2,
    "cached_tokens": 4,
}


def request(number: int, status: str = "ok", **more: Any) -> Row:
    row = {"raw_id": f"judge.input:{number:04d}", "source": "judge.input", "id": str(number), "task": "pairwise"}
    row |= {"instruction": "Q", "responses": ["a", "b"], "allowed": ["A", "B"], "template": "pairwise_original"}
    return {**row, "file": "in.jsonl", "row": f"line {number}", "status": status, **more}


def wrote(folder: Path, rows: list[Row], schema: pa.Schema, read: int) -> Rows:
    def write(place: Path) -> step.Result:
        (place / "rows").mkdir(parents=True)
        for number, part in enumerate((rows[1::2], rows[::2])):  # in no order, as blocks end
            pq.write_table(pa.Table.from_pylist(part, schema), place / "rows" / f"{number}.parquet")
        return {"ledger": balance(folder.name, {"judge.input": read}, count_status(place / "rows"))}

    return Rows(folder / "rows", step.once(folder, {"of": folder.name}, write)["fingerprint"])


def steps(work: Path, judged: list[Row], lost: list[Row]) -> tuple[Rows, Rows]:
    asked = [*(request(int(row["id"])) for row in judged), *lost]
    schema = pa.schema([*REQUEST, *JUDGMENT])
    ok = sum(row["status"] == "ok" for row in asked)
    return wrote(work / "requests", asked, REQUEST, len(asked)), wrote(work / "judge", judged, schema, ok)


def test_every_row_is_there_once_in_the_order_of_the_input(tmp_path: Path) -> None:
    judged = [request(number, **JUDGED) for number in (3, 0, 2, 5)] + [request(4, "filtered:too_long")]
    lost = [request(1, "error:request:no_task", task=None, template=None, id="x")]
    out = tmp_path / "judged"
    place = publish(out, *steps(tmp_path, judged, lost), {"model": "embedded"}, DIGESTS)
    data = pq.read_table(place)
    assert data["id"].to_pylist() == ["0", "2", "3", "5"]
    first = data.to_pylist()[0]
    assert (first["probabilities"], first["orders"][0]["probabilities"]) == (SHARES, SHARES)
    assert (first["template_digest"], first["model_digest"], first["row"]) == ("t1", "m", "line 0")
    quarantine = pq.read_table(out / "quarantine").to_pylist()
    assert [(row["id"], row["status"]) for row in quarantine] == [
        ("x", "error:request:no_task"),
        ("4", "filtered:too_long"),
    ]
    assert quarantine[0]["responses"] == ["a", "b"]
    assert read_json(out / "ledger.json")["total"] == {"in": 6, "judged": 4, "filtered": 1, "error": 1}
    manifest = read_json(out / "manifest.json")
    assert (manifest["model"], manifest["cached_tokens"], manifest["prompt_tokens"]) == ("embedded", 16, 40)


def test_the_apis_words_are_used(tmp_path: Path) -> None:
    rows = [request(0, task="classification", template="classification_original", **JUDGED)]
    place = publish(tmp_path / "judged", *steps(tmp_path, rows, []), {}, DIGESTS)
    assert pq.read_table(place).to_pylist()[0]["task"] == "classify"
    assert pq.read_table(tmp_path / "judged" / "quarantine").num_rows == 0


def test_judgments_of_another_input_are_replaced_and_the_same_ones_left(tmp_path: Path) -> None:
    one = steps(tmp_path / "one", [request(0, **JUDGED)], [])
    place = publish(tmp_path / "judged", *one, {}, DIGESTS)
    before = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    publish(tmp_path / "judged", *one, {}, DIGESTS)
    assert {path: path.stat().st_mtime_ns for path in place.iterdir()} == before
    other = steps(tmp_path / "other", [request(number, **JUDGED) for number in range(2)], [])
    publish(tmp_path / "judged", *other[:1], Rows(other[1].folder, "another"), {}, DIGESTS)
    assert pq.read_table(place).num_rows == 2
    (tmp_path / "judged" / "ledger.json").unlink()
    publish(tmp_path / "judged", *other[:1], Rows(other[1].folder, "another"), {}, DIGESTS)
    assert (tmp_path / "judged" / "ledger.json").exists()


def test_a_lost_row_is_noticed(tmp_path: Path) -> None:
    requests, judged = steps(tmp_path, [request(number, **JUDGED) for number in range(3)], [])
    (judged.folder / "0.parquet").unlink()
    with pytest.raises(LedgerError, match="does not balance"):
        publish(tmp_path / "judged", requests, judged, {}, DIGESTS)
    assert step.result_of(tmp_path / "judged") is None


def test_an_output_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    check_output(tmp_path / "new", [])
    (tmp_path / "mine" / "data").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "a.parquet").write_text("")
    with pytest.raises(UserError, match="holds files that are no judgments"):
        check_output(tmp_path / "mine", [])
    (tmp_path / "mine" / step.CLAIM).write_text("{}")
    check_output(tmp_path / "mine", [tmp_path / "b.parquet"])
    with pytest.raises(UserError, match="holds the input"):
        check_output(tmp_path / "mine", [tmp_path / "mine" / "data" / "a.parquet"])
