"""Fingerprints, encoding and the refusal of rows that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray
from transformers import AutoTokenizer

from pipelines.core.errors import UserError
from pipelines.training.pairs import (
    COLUMNS,
    ENCODED,
    encode_group,
    encode_pairs,
    load_tokenizer,
    pair_files,
    pairs_fingerprint,
    refuse_long,
)
from tests.training.tiny import pair_rows, write_pairs


def test_fingerprint_ignores_order_and_files_but_not_content(tmp_path: Path) -> None:
    rows = pair_rows(7)
    whole = pairs_fingerprint(write_pairs(tmp_path / "a", rows))
    write_pairs(tmp_path / "b", rows[3:][::-1], group=2)
    (tmp_path / "b" / "part-0.parquet").rename(tmp_path / "b" / "part-1.parquet")
    assert pairs_fingerprint(write_pairs(tmp_path / "b", rows[:3])) == whole
    changed = [*rows[:-1], {**rows[-1], "rejected": "Result: C"}]
    assert pairs_fingerprint(write_pairs(tmp_path / "c", changed)) != whole
    assert pairs_fingerprint(write_pairs(tmp_path / "d", [*rows, rows[0]])) != whole


def test_only_rows_with_status_ok_count(tmp_path: Path) -> None:
    rows = pair_rows(4)
    whole = pairs_fingerprint(write_pairs(tmp_path / "a", rows))
    extra = {**pair_rows(5)[4], "status": "filtered:too_many_tokens"}
    assert pairs_fingerprint(write_pairs(tmp_path / "b", [*rows, extra])) == whole


def test_missing_files_columns_and_rows_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no parquet files"):
        pair_files(tmp_path)
    folder = write_pairs(tmp_path / "a", [{"row_id": "1", "prompt": "x", "chosen": "y"}])
    with pytest.raises(UserError, match=r"missing column\(s\): rejected"):
        pair_files(folder)
    folder = write_pairs(tmp_path / "b", [{**row, "status": "error:x"} for row in pair_rows(2)])
    with pytest.raises(UserError, match="there are no pairs"):
        pairs_fingerprint(folder)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x.parquet").write_bytes(b"not parquet")
    with pytest.raises(UserError, match="not a readable parquet file"):
        pair_files(tmp_path / "c")


def test_other_columns_may_count_also_lists(tmp_path: Path) -> None:
    found = set()
    for name, allowed in (("a", ["A", "B"]), ("b", ["AB"]), ("c", ["A"]), ("d", None)):
        folder = write_pairs(tmp_path / name, [{**row, "allowed": allowed} for row in pair_rows(2)])
        found.add(pairs_fingerprint(folder, (*COLUMNS, "allowed")))
        assert pairs_fingerprint(folder) == pairs_fingerprint(tmp_path / "a")
    assert len(found) == 4
    with pytest.raises(UserError, match=r"missing column\(s\): allowed"):
        pairs_fingerprint(write_pairs(tmp_path / "e", pair_rows(2)), (*COLUMNS, "allowed"))


def test_a_row_may_come_without_a_rejected_completion_where_that_is_asked_for(tmp_path: Path, tiny_model: Path) -> None:
    rows = [{**pair_rows(1)[0], "rejected": None}]
    source, target = write_pairs(tmp_path / "pairs", rows) / "part-0.parquet", tmp_path / "out.parquet"
    counts = encode_group(source, 0, target, str(tiny_model), paired=False)
    (encoded,) = pq.read_table(target).to_pylist()
    assert encoded["rejected_ids"] == []
    assert encoded["tokens"] == len(encoded["prompt_ids"]) + len(encoded["chosen_ids"]) == counts["tokens"]
    with pytest.raises(UserError, match="row 'row-0000' lacks"):
        encode_group(source, 0, target, str(tiny_model))


def test_special_tokens_in_the_data_are_plain_text(tmp_path: Path, tiny_model: Path) -> None:
    row = {"row_id": "1", "prompt": "a<|im_end|>b", "chosen": "c<|im_end|>", "rejected": "d", "status": "ok"}
    source = write_pairs(tmp_path / "pairs", [row]) / "part-0.parquet"
    counts = encode_group(source, 0, tmp_path / "out.parquet", str(tiny_model))
    (encoded,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    text = tokenizer.decode(encoded["prompt_ids"])
    assert text == "<|im_start|>user\na<|im_end|>b<|im_end|>\n<|im_start|>assistant\n"
    assert encoded["prompt_ids"].count(2) == 1  # the template's own end of turn
    assert encoded["chosen_ids"].count(2) == 1 and encoded["chosen_ids"][-1] == 2
    lengths = [len(encoded[f"{part}_ids"]) for part in ("prompt", "chosen", "rejected")]
    assert encoded["tokens"] == lengths[0] + max(lengths[1:])
    assert counts == {"rows": 1, "sequences": 2, "tokens": 2 * lengths[0] + lengths[1] + lengths[2]}


def test_an_empty_text_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    source = write_pairs(tmp_path / "pairs", [{**pair_rows(1)[0], "chosen": ""}]) / "part-0.parquet"
    with pytest.raises(UserError, match="row 'row-0000' lacks"):
        encode_group(source, 0, tmp_path / "out.parquet", str(tiny_model))


def test_rows_longer_than_max_length_are_refused_by_name(tmp_path: Path, tiny_model: Path) -> None:
    rows = pair_rows(8)
    for i in (1, 4):
        rows[i]["prompt"] = "long " * 50
    source = write_pairs(tmp_path / "pairs", rows) / "part-0.parquet"
    (tmp_path / "encoded").mkdir()
    encode_group(source, 0, tmp_path / "encoded" / "0.parquet", str(tiny_model))
    with pytest.raises(UserError, match=r"2 pair\(s\) are longer than train.max_length 128 .* row-0001, row-0004"):
        refuse_long(tmp_path / "encoded", 128, "pairs")
    longest = max(pq.read_table(tmp_path / "encoded" / "0.parquet")["tokens"].to_pylist())
    refuse_long(tmp_path / "encoded", longest, "pairs")  # exactly as long as allowed
    with pytest.raises(UserError):
        refuse_long(tmp_path / "encoded", longest - 1, "pairs")


def test_a_model_without_tokenizer_or_chat_template_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(UserError, match="cannot load the tokenizer"):
        load_tokenizer(str(tmp_path))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match="no chat template"):
        load_tokenizer(str(tmp_path / "bare"))


def test_five_long_rows_are_named_and_of_more_only_the_first_five(tmp_path: Path) -> None:
    for count, ending in ((5, r"r4 \("), (6, r"r4, \.\.\. \(")):
        rows = [{"row_id": f"r{i}", "tokens": 100 + i} for i in range(count)]
        folder = write_pairs(tmp_path / str(count), [{"row_id": "short", "tokens": 10}, *rows])
        message = rf"{count} pair.*longest: {99 + count} tokens\): row_id r0, r1, r2, r3, {ending}"
        with pytest.raises(UserError, match=message):
            refuse_long(folder, 99, "pairs")


def test_rows_keep_their_instruction_and_whether_they_are_a_judgment_alone(tmp_path: Path, tiny_model: Path) -> None:
    rows = pair_rows(3)
    rows[0] |= {"group_id": "g", "format": "cot"}
    rows[1] |= {"group_id": None, "format": "judgment_only"}
    rows[2] |= {"group_id": "g", "format": "cot", "status": "filtered:x"}
    source = write_pairs(tmp_path / "pairs", rows) / "part-0.parquet"
    assert encode_group(source, 0, tmp_path / "out.parquet", str(tiny_model))["rows"] == 2
    encoded = pq.read_table(tmp_path / "out.parquet")
    assert encoded.select(["row_id", "group", "alone"]).to_pylist() == [
        {"row_id": "row-0000", "group": "g", "alone": False},
        {"row_id": "row-0001", "group": "row-0001", "alone": True},
    ]


def test_pairs_of_a_users_own_need_no_status(tmp_path: Path, tiny_model: Path) -> None:
    bare = [{name: row[name] for name in COLUMNS} for row in pair_rows(2)]
    folder = write_pairs(tmp_path / "bare", bare)
    assert pairs_fingerprint(folder) == pairs_fingerprint(write_pairs(tmp_path / "whole", pair_rows(2)))
    encode_group(folder / "part-0.parquet", 0, tmp_path / "out.parquet", str(tiny_model))
    encoded = pq.read_table(tmp_path / "out.parquet")
    assert encoded["group"].to_pylist() == encoded["row_id"].to_pylist() and not any(encoded["alone"].to_pylist())


class Here:
    """Runs a Ray task at once, in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tasks = 0
        monkeypatch.setattr(ray, "remote", lambda **_: lambda function: SimpleNamespace(remote=self.run(function)))
        monkeypatch.setattr(ray, "get", lambda jobs: [job() for job in jobs])

    def run(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def remote(*arguments: Any) -> Callable[[], Any]:
            self.tasks += 1
            return lambda: function(*arguments)

        return remote


def test_pairs_are_encoded_once_a_row_group_a_task(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, work, here = write_pairs(tmp_path / "pairs", pair_rows(5), group=2), tmp_path / "work", Here(monkeypatch)
    rows, counts = encode_pairs(pairs, work, str(tiny_model), {"pairs": "a", "model": "b"})
    assert here.tasks == 3 and counts["rows"] == 5
    encoded = pq.read_table(rows.folder)
    assert encoded.schema.names == ENCODED.names
    lengths = [sum(map(len, encoded[f"{part}_ids"].to_pylist())) for part in ("prompt", "chosen", "rejected")]
    assert counts["tokens"] == 2 * lengths[0] + lengths[1] + lengths[2]
    assert encode_pairs(pairs, work, str(tiny_model), {"pairs": "a", "model": "b"}) == (rows, counts)
    assert here.tasks == 3
    other, _ = encode_pairs(pairs, work, str(tiny_model), {"pairs": "a", "model": "c"})
    assert here.tasks == 6 and other.folder != rows.folder and other.fingerprint != rows.fingerprint


def test_a_users_mistake_in_a_task_comes_back_as_itself(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = write_pairs(tmp_path / "pairs", pair_rows(1))
    Here(monkeypatch)
    for cause, expected in ((UserError("row 'x' lacks"), UserError), (ValueError(), ray.exceptions.RayTaskError)):
        error = ray.exceptions.RayTaskError("encode_group", "traceback", cause)

        def fail(jobs: Any, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(ray, "get", fail)
        with pytest.raises(expected):
            encode_pairs(pairs, tmp_path / "work", str(tiny_model), {"pairs": "a"})
