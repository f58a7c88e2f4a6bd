"""Preference pairs as token ids: fingerprinted, encoded once by Ray tasks, refused when too long."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.core.errors import UserError
from pipelines.core.files import read_json, write_json
from pipelines.core.records import OK

COLUMNS = ("row_id", "prompt", "chosen", "rejected")
KNOWN = ("group_id", "format")  # of curated pairs
IDS = pa.list_(pa.int32())
ENCODED = pa.schema(
    [
        ("row_id", pa.string()),
        ("group", pa.string()),  # of rows with one instruction, or the row_id where that is not known
        ("alone", pa.bool_()),  # a judgment without a critique
        ("source", pa.string()),
        ("status", pa.string()),
        ("prompt_ids", IDS),
        ("chosen_ids", IDS),
        ("rejected_ids", IDS),
        ("tokens", pa.int32()),  # of the prompt and the longer completion
    ]
)
SUMMARY = "_summary.json"  # the underscore: readers of the folder pass it by
SHOWN = 5  # row ids named in an error
CHUNK = 2**20  # bytes read of each end of a large file
SMALL = 2**24  # bytes up to which a file is read whole


def pair_files(folder: Path) -> list[Path]:
    """The parquet files of a folder of pairs.

    Raises:
        UserError: there are none, one cannot be read, or a column is missing.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise UserError("no parquet files to train on", where=str(folder), fix="run ray_jobs/curate.py first")
    for path in paths:
        try:
            names = pq.read_schema(path).names
        except (OSError, pa.ArrowInvalid):
            raise UserError("not a readable parquet file", where=str(path)) from None
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise UserError(f"missing column(s): {', '.join(missing)}", where=str(path))
    return paths


def pairs_fingerprint(folder: Path) -> str:
    """Hash of the pairs as a set: the same for any order and any cut into files.

    Raises:
        UserError: a file cannot be read, or there are no pairs.
    """
    total = rows = 0
    for path in pair_files(folder):
        for group in range(pq.ParquetFile(path).num_row_groups):
            for values in zip(*_texts(path, group).values(), strict=True):
                line = "\x1f".join(value or "" for value in values)
                total += int.from_bytes(_hash(line.encode("utf-8", "surrogatepass")), "big")
                rows += 1
    if not rows:
        raise UserError("there are no pairs", where=str(folder), fix="look into the curation's quarantine for why")
    return f"{rows}-{total % 2**128:032x}"


def model_fingerprint(model: str) -> str:
    """Hash of a model folder: small files whole, of the weights their size and both ends; of a hub id the name."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    state = hashlib.blake2b(digest_size=16)
    for path in sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")):
        size = path.stat().st_size
        with path.open("rb") as file:
            content = file.read(SMALL if size <= SMALL else CHUNK)
            if size > SMALL:
                file.seek(-CHUNK, os.SEEK_END)
                content += file.read()
        state.update(f"{path.name}\x1f{size}\x1f".encode() + _hash(content))
    return state.hexdigest()


def encode_pairs(pairs: Path, target: Path, model: str, max_length: int, fingerprint: str) -> dict[str, Any]:
    """Encode every pair once, by one Ray task per row group, and refuse rows that do not fit.

    Args:
        pairs: folder of pairs.
        target: folder of the encoded rows, reused when it holds the same fingerprint.
        model: folder or hub id of the tokenizer.
        max_length: tokens of prompt and the longer completion.
        fingerprint: of pairs and model.

    Returns:
        `rows` and `tokens` (of prompt + chosen and prompt + rejected together).

    Raises:
        UserError: rows exceed `max_length`, or the tokenizer cannot be loaded.
    """
    import ray

    summary = target / SUMMARY
    if not (summary.exists() and read_json(summary)["fingerprint"] == fingerprint):
        target.mkdir(parents=True, exist_ok=True)
        for old in target.glob("*.parquet"):
            old.unlink()
        # Not where a sweep's trial has its place: Ray would look for room for the task in there.
        task = ray.remote(num_cpus=1, scheduling_strategy="DEFAULT")(encode_group)
        jobs = [
            task.remote(path, group, target / f"{i:05d}-{group:05d}.parquet", model)
            for i, path in enumerate(pair_files(pairs))
            for group in range(pq.ParquetFile(path).num_row_groups)
        ]
        parts = _results(jobs)
        write_json(summary, {"fingerprint": fingerprint, **{k: sum(p[k] for p in parts) for k in ("rows", "tokens")}})
    refuse_long(target, max_length, str(pairs))
    return dict(read_json(summary))


def encode_group(path: Path, group: int, target: Path, model: str) -> dict[str, int]:
    """Encode one row group of a parquet file into a file of its own.

    Raises:
        UserError: the tokenizer cannot be loaded, it has no chat template, or a text is missing.
    """
    from pipelines.judging.chat import encode_completion, encode_prompt

    tokenizer = load_tokenizer(model)
    rows = []
    columns = _texts(path, group, (*COLUMNS, *KNOWN)).values()
    for row_id, prompt, chosen, rejected, instruction, form in zip(*columns, strict=True):
        if not (row_id and prompt and chosen and rejected):
            raise UserError(f"row '{row_id}' lacks prompt, chosen or rejected", where=str(path))
        ids = (
            encode_prompt(tokenizer, prompt),
            encode_completion(tokenizer, chosen),
            encode_completion(tokenizer, rejected),
        )
        length = len(ids[0]) + max(len(ids[1]), len(ids[2]))
        about = (row_id, instruction or row_id, form == "judgment_only")
        rows.append(dict(zip(ENCODED.names, (*about, "pairs", OK, *ids, length), strict=True)))
    draft = target.with_name(f".{target.name}.tmp")
    pq.write_table(pa.Table.from_pylist(rows, schema=ENCODED), draft)
    os.replace(draft, target)
    tokens = sum(2 * len(r["prompt_ids"]) + len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in rows)
    return {"rows": len(rows), "tokens": tokens}


def load_tokenizer(model: str) -> Any:
    """The model's tokenizer.

    Raises:
        UserError: there is none, or it has no chat template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
    except (OSError, ValueError) as exc:
        raise UserError(f"cannot load the tokenizer: {_first_line(exc)}", where=model) from None
    if not tokenizer.chat_template:
        raise UserError("the tokenizer has no chat template", where=model, fix="train an instruction-tuned model")
    return tokenizer


def refuse_long(encoded: Path, max_length: int, where: str) -> None:
    """Check the lengths before training: a cut completion would lose its verdict, and its NLL would be NaN.

    Raises:
        UserError: naming how many rows are too long and the first of them.
    """
    ids: list[str] = []
    count = longest = 0
    for path in sorted(encoded.glob("*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(columns=["row_id", "tokens"]):
            for row_id, tokens in zip(batch["row_id"].to_pylist(), batch["tokens"].to_pylist(), strict=True):
                if tokens > max_length:
                    count, longest = count + 1, max(longest, tokens)
                    ids += [row_id] if len(ids) < SHOWN else []
    if count:
        named = ", ".join(ids) + (", ..." if count > SHOWN else "")
        raise UserError(
            f"{count} pair(s) are longer than train.max_length {max_length} (longest: {longest} tokens): "
            f"row_id {named}",
            where=where,
            fix="raise train.max_length, or lower curation.mix.max_tokens to quarantine them",
        )


def _texts(path: Path, group: int, wanted: Sequence[str] = COLUMNS) -> dict[str, list[str | None]]:
    file = pq.ParquetFile(path)
    there = [name for name in (*wanted, "status") if name in file.schema_arrow.names]
    table = file.read_row_group(group, columns=there)
    if "status" in there:
        table = table.filter(pc.equal(table["status"], "ok"))
    return {name: table[name].to_pylist() if name in there else [None] * table.num_rows for name in wanted}


def _results(jobs: list[Any]) -> list[dict[str, int]]:
    """What the tasks return; a user's mistake is raised as itself, without Ray's wrapping."""
    import ray

    try:
        return list(ray.get(jobs))
    except ray.exceptions.RayTaskError as exc:
        if isinstance(exc.cause, UserError):
            raise exc.cause from None
        raise


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _first_line(exc: Exception) -> str:
    return str(exc).strip().split("\n", 1)[0]


def encoded_files(folder: Path) -> Iterator[str]:
    """Paths of the encoded rows, in order."""
    return (str(path) for path in sorted(folder.glob("*.parquet")))
