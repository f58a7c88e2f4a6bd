"""Preference pairs: their files, their fingerprint, and their token ids."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core import step, storage
from pipelines.core.determinism import unit
from pipelines.core.errors import UserError
from pipelines.core.records import OK
from pipelines.core.segment import ROWS, Rows
from pipelines.core.storage import Place

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
SHOWN = 5  # row ids named in an error


def is_held_out(group: str, share: float, seed: int) -> bool:
    """Whether the rows of a group are held out, by its hash."""
    return unit(seed, "held out", group) < share


def pair_files(folder: Place, columns: Sequence[str] = COLUMNS) -> list[Place]:
    """The parquet files of a folder of pairs, each of which must have these columns.

    Raises:
        UserError: the folder has none, one cannot be read, or a column is missing.
    """
    paths = storage.files(folder, ".parquet")
    if not paths:
        raise UserError("no parquet files to train on", where=str(folder), fix="run ray_jobs/curate.py first")
    for path in paths:
        names = storage.folder_schema(path).names
        missing = [name for name in columns if name not in names]
        if missing:
            raise UserError(f"missing column(s): {', '.join(missing)}", where=str(path))
    return paths


def pairs_fingerprint(folder: Place, columns: Sequence[str] = COLUMNS) -> str:
    """Hash of these columns of the pairs, as a set: the same for any order and any split into files.

    Raises:
        UserError: a file cannot be read, or there are no pairs.
    """
    total = rows = 0
    for path in pair_files(folder, columns):
        for group in storage.row_groups(path):
            for values in zip(*_texts(path, group, columns).values(), strict=True):
                line = "\x1f".join(_joined(value) for value in values).encode("utf-8", "surrogatepass")
                total += int.from_bytes(hashlib.blake2b(line, digest_size=16).digest(), "big")
                rows += 1
    if not rows:
        raise UserError("there are no pairs", where=str(folder), fix="the quarantine of the curation says why")
    return f"{rows}-{total % 2**128:032x}"


def encode_pairs(
    pairs: Place, work: Place, model: str, source: step.Depends, *, paired: bool = True
) -> tuple[Rows, step.Result]:
    """Encode every pair once, by one Ray task per row group.

    Args:
        pairs: folder of pairs.
        work: gets a folder named by what the encoded rows depend on, so that refused pairs block no others.
        model: that of the tokenizer, by a name that every node knows.
        source: the fingerprint of the pairs and the digest of the model.
        paired: whether each row must have a rejected completion; that of a row without one has no tokens.

    Returns:
        The encoded rows, and their `rows`, `sequences` (prompt + chosen, prompt + rejected) and the `tokens` of these.

    Raises:
        UserError: a text is missing, or the tokenizer cannot be loaded.
    """

    def write(folder: Place) -> step.Result:
        import ray

        target = storage.fresh(folder / ROWS)
        # Outside the placement group of a sweep's trial, which has no CPU for it.
        task = ray.remote(num_cpus=1, scheduling_strategy="DEFAULT")(encode_group)
        jobs = [
            task.remote(path, group, target / f"{i:05d}-{group:05d}.parquet", model, paired)
            for i, path in enumerate(pair_files(pairs))
            for group in storage.row_groups(path)
        ]
        parts = _results(jobs)
        return {name: sum(part[name] for part in parts) for name in ("rows", "sequences", "tokens")}

    depends = {**source, "columns": ENCODED.names}
    folder = work / step.fingerprint(depends)
    result = step.once(folder, depends, write)
    return Rows(folder / ROWS, result["fingerprint"]), result


def encode_group(path: Place, group: int, target: Place, model: str, paired: bool = True) -> dict[str, int]:
    """Encode one row group of a parquet file into a separate file.

    Raises:
        UserError: the tokenizer cannot be loaded, its chat template is not usable, or a text is missing.
    """
    from pipelines.judging.chat import encode_completion, encode_prompt

    tokenizer = load_tokenizer(model)
    rows = []
    columns = _texts(path, group, (*COLUMNS, *KNOWN)).values()
    for row_id, prompt, chosen, rejected, instruction, form in zip(*columns, strict=True):
        if not (row_id and prompt and chosen and (rejected or not paired)):
            raise UserError(f"row '{row_id}' lacks prompt, chosen or rejected", where=str(path))
        ids = (
            encode_prompt(tokenizer, prompt),
            encode_completion(tokenizer, chosen),
            encode_completion(tokenizer, rejected) if rejected else [],
        )
        length = len(ids[0]) + max(len(ids[1]), len(ids[2]))
        about = (row_id, instruction or row_id, form == "judgment_only")
        rows.append(dict(zip(ENCODED.names, (*about, "pairs", OK, *ids, length), strict=True)))
    storage.write_table(target, pa.Table.from_pylist(rows, schema=ENCODED))
    sides = [(row["prompt_ids"], row[side]) for row in rows for side in ("chosen_ids", "rejected_ids") if row[side]]
    tokens = sum(len(prompt) + len(completion) for prompt, completion in sides)
    return {"rows": len(rows), "sequences": len(sides), "tokens": tokens}


def load_tokenizer(model: str) -> Any:
    """The model's tokenizer.

    Raises:
        UserError: it cannot be loaded, or its chat template is not usable.
    """
    from transformers import AutoTokenizer

    from pipelines.engines.models import here
    from pipelines.judging.chat_template import answering

    try:
        tokenizer = AutoTokenizer.from_pretrained(here(model))
    except (OSError, ValueError) as exc:
        first_line = str(exc).strip().split("\n", 1)[0]
        raise UserError(f"cannot load the tokenizer: {first_line}", where=model) from None
    try:
        answering(tokenizer)
    except UserError as unusable:
        raise UserError(unusable.what, where=model, fix="train an instruction-tuned model") from None
    return tokenizer


def refuse_long(encoded: Place, max_length: int, where: str) -> None:
    """Refuse pairs that do not fit: a cut completion would lose its verdict, and its NLL would be NaN.

    Raises:
        UserError: naming how many rows are too long and the first of them.
    """
    long = storage.read_table(encoded, ["row_id", "tokens"], keep=pc.field("tokens") > max_length)
    if long.num_rows:
        named = ", ".join(long["row_id"].to_pylist()[:SHOWN]) + (", ..." if long.num_rows > SHOWN else "")
        raise UserError(
            f"{long.num_rows} pair(s) are longer than train.max_length {max_length} "
            f"(longest: {pc.max(long['tokens'])} tokens): row_id {named}",
            where=where,
            fix="raise train.max_length, or lower curation.mix.max_tokens to quarantine them",
        )


def _joined(value: Any) -> str:
    """A column's value as a text: of a list, its texts."""
    return "\x1e".join(value) if isinstance(value, list) else value or ""


def _texts(path: Place, group: int, wanted: Sequence[str] = COLUMNS) -> dict[str, list[Any]]:
    names = storage.folder_schema(path).names
    present = [name for name in (*wanted, "status") if name in names]
    table = storage.read_row_group(path, group, present)
    if "status" in present:
        table = table.filter(pc.equal(table["status"], OK))
    return {name: table[name].to_pylist() if name in present else [None] * table.num_rows for name in wanted}


def _results(jobs: list[Any]) -> list[dict[str, int]]:
    """What the tasks return; a user's mistake is raised as itself, without Ray's wrapping."""
    import ray

    try:
        return list(ray.get(jobs))
    except ray.exceptions.RayTaskError as exc:
        if isinstance(exc.cause, UserError):
            raise exc.cause from None
        raise
