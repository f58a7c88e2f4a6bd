"""One record that grows column by column from a source row to a training pair (docs/architecture.md)."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa

from pipelines.core.determinism import digest
from pipelines.core.errors import RowFailure

Row = dict[str, Any]
Task = Literal["pairwise", "absolute", "classification"]
TASKS: tuple[str, ...] = ("pairwise", "absolute", "classification")

OK = "ok"
TEXT = pa.string()
TEXTS = pa.list_(pa.string())
NUMBERS = pa.list_(pa.float64())

EXAMPLE = pa.schema(
    [
        ("raw_id", TEXT),  # source and position in it: unique before duplicates are known
        ("row_id", TEXT),  # hash of source and content
        ("content_hash", TEXT),  # hash of content alone: equal for duplicates across sources
        ("source", TEXT),
        ("task", TEXT),
        ("instruction", TEXT),
        ("context", TEXT),
        ("responses", TEXTS),
        ("reference", TEXT),
        ("rubric", TEXT),
        ("allowed", TEXTS),
        ("verdict", TEXT),
        ("group_id", TEXT),
        ("split", TEXT),
        ("published", pa.int32()),
        ("license", TEXT),
        ("status", TEXT),
    ]
)
OVERLAPS = [pa.field("overlaps", TEXTS)]  # benchmarks that have the row's prompt
SCORED = [
    pa.field("rewards", NUMBERS),
    pa.field("reward_objectives", pa.list_(NUMBERS)),
    pa.field("reward_model", TEXT),
]
CONTRASTED = [pa.field("swapped", pa.bool_()), pa.field("rejected_verdict", TEXT)]
UNPUBLISHED = {"published": "no"}  # metadata of a column that stays in the run's own folders
CRITIQUED = [
    pa.field("chosen_critique", TEXT),
    pa.field("rejected_critique", TEXT),
    pa.field("generator", TEXT),
    pa.field("synthesis_tokens", pa.int64()),  # read and written by the engine for this row
    # What a generator that thinks wrote before its critiques, and the tokens of that; no later stage reads it.
    pa.field("chosen_thoughts", TEXT, metadata=UNPUBLISHED),
    pa.field("rejected_thoughts", TEXT, metadata=UNPUBLISHED),
    pa.field("thought_tokens", pa.int64(), metadata=UNPUBLISHED),
]
# What the cache holds differs from run to run.
CACHED = [
    pa.field("synthesis_prompt_tokens", pa.int64(), metadata=UNPUBLISHED),  # read by the engine for this row
    pa.field("synthesis_cached_tokens", pa.int64(), metadata=UNPUBLISHED),  # of those, found in its prefix cache
]
CHECKED = [
    pa.field("chosen_consistent", pa.bool_()),
    pa.field("rejected_consistent", pa.bool_()),
    pa.field("attempts", pa.int32()),  # chosen critiques written
    # Of a share of the rows: what the checker says of pairs that are inconsistent, and consistent, by construction.
    pa.field("probe_negative_flagged", pa.bool_()),
    pa.field("probe_positive_flagged", pa.bool_()),
]
PAIRED = [
    pa.field("format", TEXT),  # cot | judgment_only
    pa.field("template", TEXT),
    pa.field("prompt", TEXT),
    pa.field("chosen", TEXT),
    pa.field("rejected", TEXT),
    pa.field("prompt_tokens", pa.int32()),
    pa.field("chosen_tokens", pa.int32()),
    pa.field("rejected_tokens", pa.int32()),
]
# What curation makes of an Example; columns of further stages come after these.
PAIR = pa.schema([*EXAMPLE, *OVERLAPS, *SCORED, *CONTRASTED, *CRITIQUED, *CACHED, *CHECKED, *PAIRED])
JUDGED = [
    pa.field("raw", TEXT),  # without thoughts
    pa.field("thoughts", TEXT),  # of a judge that thinks before it answers; never parsed
    pa.field("thought_tokens", pa.int32()),
    pa.field("critique", TEXT),
    pa.field("predicted", TEXT),  # the judge's verdict, in the letters of the order shown
    pa.field("parse_status", TEXT),  # ok | completed | no_verdict | not_allowed | thoughts_cut
    pa.field("verdict_probs", pa.map_(TEXT, pa.float64())),
    pa.field("latency", pa.float64()),  # seconds
    pa.field("prompt_tokens", pa.int32()),
    pa.field("output_tokens", pa.int32()),
]

CONTENT = ("task", "instruction", "context", "responses", "reference", "rubric", "allowed", "verdict")


def published(columns: pa.Schema) -> pa.Schema:
    """The columns of the published set: those of a pair, then the others of `columns`, without the unpublished ones."""
    more = [column for column in columns if column.name not in PAIR.names]
    unpublished = {key.encode(): value.encode() for key, value in UNPUBLISHED.items()}
    return pa.schema([column for column in (*PAIR, *more) if column.metadata != unpublished])


def content_hash(row: Row) -> str:
    """Hash of what a row says, without where it comes from: equal for exact duplicates."""
    return digest(*(row.get(name) for name in CONTENT))


def row_id(row: Row, content: str | None = None) -> str:
    """The row's id: hash of its source and its content, or of `content` where its hash is known already."""
    return digest(row["source"], content or content_hash(row))


def group_id(instruction: str | None) -> str:
    """Hash of the instruction: splits and confidence intervals cluster on it."""
    return digest(" ".join((instruction or "").split()).casefold())


def filtered(reason: str) -> str:
    """Status of a row that a rule turns away."""
    return f"filtered:{reason}"


def error(reason: str) -> str:
    """Status of a row that something went wrong with."""
    return f"error:{reason}"


def failure(stage: str, exc: RowFailure) -> str:
    """Status of a row that failed in a stage; what the message quotes of a broken text can still be stored."""
    said = " ".join(str(exc).split())[:200].encode("utf-8", "backslashreplace").decode()
    return error(f"{stage}:{said}")


def kind(status: str | None) -> str:
    """`ok`, `filtered` or `error`; a missing status is an error."""
    if status == "ok":
        return status
    head = (status or "error").split(":", 1)[0]
    return head if head in ("ok", "filtered") else "error"
