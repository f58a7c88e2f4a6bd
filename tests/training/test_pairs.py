"""Fingerprints, encoding and the refusal of rows that do not fit."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from pipelines.core.errors import UserError
from pipelines.training.pairs import (
    encode_group,
    load_tokenizer,
    model_fingerprint,
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
    assert counts == {"rows": 1, "tokens": 2 * lengths[0] + lengths[1] + lengths[2]}


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


def test_the_model_fingerprint_sees_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(17 * 2**20))
    before = model_fingerprint(str(tmp_path))
    assert model_fingerprint(str(tmp_path)) == before
    weights.write_bytes(bytes(17 * 2**20 - 1) + b"\x01")
    assert model_fingerprint(str(tmp_path)) != before
    assert model_fingerprint("org/name") == "org/name"
