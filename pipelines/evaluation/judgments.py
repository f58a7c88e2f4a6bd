"""The judgments of one model as one file: all that scoring needs, without a model."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from pipelines.core.errors import UserError
from pipelines.core.records import JUDGED, OK
from pipelines.core.segment import folder_schema
from pipelines.evaluation.examples import ASKED

JUDGMENT = pa.schema([*ASKED, *JUDGED])
UNASKED, FAILED = "unasked", "failed"  # further values of parse_status
_ORDER = [(name, "ascending") for name in ("benchmark", "row_id", "order", "template")]
_SCORED = (
    "judgment_id",
    "row_id",
    "group_id",
    "benchmark",
    "subset",
    "order",
    "template",
    "allowed",
    "gold",
    "found",
    "status",
    "predicted",
    "parse_status",
    "verdict_probs",
    "output_tokens",
    "latency",
    "generators",
)


def write_judgments(judged: Path, examples: Path, out: Path) -> Path:
    """Write all judgments of one model, and the rows no judge could be asked about, as one parquet file.

    Sorted by benchmark, row, order and template, so that equal judgments make equal files. `parse_status` is `unasked`
    for a row that could not be judged, `failed` where the judge gave no answer (its context was too short).

    Args:
        judged: folder of the judged rows.
        examples: folder of the rows asked about.
        out: the file to write.
    """
    answered = pads.dataset(str(judged), format="parquet", schema=JUDGMENT).to_table()
    answered = _with_status(answered, pc.if_else(_answered(answered), answered["parse_status"], FAILED))
    table = pa.concat_tables([answered, _unasked(examples)])
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.tmp")
    pq.write_table(table.take(pc.sort_indices(table, sort_keys=_ORDER)), draft)
    draft.replace(out)
    return out


def read_judgments(path: Path, examples: Path | None = None) -> pd.DataFrame:
    """The columns scoring needs, one line per judgment, sorted, with `outcome`: the parse status, never null.

    Args:
        path: a file of `write_judgments`, or a file or folder of judged rows alone.
        examples: folder of the rows asked about: those no judge could be asked about are added from it.

    Raises:
        UserError: there are no judgments there.
    """
    if not path.exists():
        raise UserError("no judgments", where=str(path), fix="run the benchmark job first")
    if path.is_dir():
        folder_schema(path)
    table = pads.dataset(str(path), format="parquet", schema=JUDGMENT).to_table(columns=list(_SCORED))
    if examples is not None:
        known = pc.field("judgment_id").isin(table["judgment_id"])
        table = pa.concat_tables([table, _unasked(examples).select(_SCORED).filter(~known)])
    unasked = pc.fill_null(pc.equal(table["parse_status"], UNASKED), False)
    outcome = pc.if_else(pc.or_(_answered(table), unasked), table["parse_status"], FAILED)
    frame = pd.DataFrame(table.append_column("outcome", outcome).to_pydict())
    return frame.sort_values([name for name, _ in _ORDER], ignore_index=True)


def _unasked(examples: Path) -> pa.Table:
    """The rows that could not be judged."""
    asked = pads.dataset(str(examples), format="parquet", schema=JUDGMENT)
    table = asked.to_table(filter=pc.field("status") != OK)
    return _with_status(table, pa.array([UNASKED] * len(table), pa.string()))


def _answered(table: pa.Table) -> pa.ChunkedArray:
    """Whether each row has an answer that was parsed, whatever came out of it."""
    parsed = pc.and_(pc.equal(table["status"], OK), pc.is_valid(table["parse_status"]))
    return pc.fill_null(parsed, False)


def _with_status(table: pa.Table, values: pa.Array) -> pa.Table:
    field = JUDGMENT.field("parse_status")
    return table.set_column(table.schema.get_field_index(field.name), field, values)
