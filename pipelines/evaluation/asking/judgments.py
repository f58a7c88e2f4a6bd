"""The judgments of one model as one file: all that scoring needs, so that it needs no model."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.records import JUDGED, OK, filtered
from pipelines.core.storage import Place
from pipelines.engines.llm.ask import TOO_LONG
from pipelines.evaluation.asking.benchmark_rows import BENCHMARK_ROW
from pipelines.judging.parse import READ

JUDGMENT = pa.schema([*BENCHMARK_ROW, *JUDGED])
SKIPPED, FAILED = "unasked", "failed"  # further values of parse_status, beside TOO_LONG
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


def write_judgments(judged: Place, examples: Place, out: Place) -> Place:
    """Write all judgments of one model, and the benchmark rows that no judge is asked about, as one parquet file.

    Sorted by benchmark, row, order and template, so that equal judgments make equal files. `parse_status` is `unasked`
    for a row that cannot be judged, `too_long` where it does not fit the judge's context, and `failed` where the judge
    gave no answer.

    Args:
        judged: folder of the judged rows.
        examples: folder of the benchmark rows.
        out: the file to write.
    """
    answered = storage.read_table(judged, schema=JUDGMENT)
    answered = _with_status(answered, pc.if_else(_answered(answered), answered["parse_status"], _unanswered(answered)))
    table = pa.concat_tables([answered, _skipped(examples)])
    storage.write_table(out, table.take(pc.sort_indices(table, sort_keys=_ORDER)))
    return out


def read_judgments(place: Place, examples: Place | None = None) -> pd.DataFrame:
    """The columns scoring needs, one line per judgment, sorted, with `outcome`: the parse status, `ok` for any verdict.

    Args:
        place: a file of `write_judgments`, or a file or folder of judged rows alone.
        examples: folder of the benchmark rows: those that no judge is asked about are added from it.

    Raises:
        UserError: there are no judgments there.
    """
    if not storage.exists(place):
        raise UserError("no judgments", where=str(place), fix="run the benchmark job first")
    table = storage.read_table(place, columns=_SCORED, schema=JUDGMENT)
    if examples is not None:
        known = pc.field("judgment_id").isin(table["judgment_id"])
        table = pa.concat_tables([table, _skipped(examples).select(_SCORED).filter(~known)])
    skipped = pc.fill_null(pc.equal(table["parse_status"], SKIPPED), False)
    said = pc.if_else(pc.is_in(table["parse_status"], pa.array(READ)), OK, table["parse_status"])
    outcome = pc.if_else(pc.or_(_answered(table), skipped), said, _unanswered(table))
    frame = pd.DataFrame(table.append_column("outcome", outcome).to_pydict())
    return frame.sort_values([name for name, _ in _ORDER], ignore_index=True)


def _skipped(examples: Place) -> pa.Table:
    """The benchmark rows that cannot be judged."""
    table = storage.read_table(examples, keep=pc.field("status") != OK, schema=JUDGMENT)
    return _with_status(table, pa.array([SKIPPED] * len(table), pa.string()))


def _answered(table: pa.Table) -> pa.ChunkedArray:
    """Whether each row has an answer that went through the parser, whatever the outcome."""
    parsed = pc.and_(pc.equal(table["status"], OK), pc.is_valid(table["parse_status"]))
    return pc.fill_null(parsed, False)


def _unanswered(table: pa.Table) -> pa.ChunkedArray:
    """Why each row has no answer, if it has none."""
    return pc.if_else(pc.fill_null(pc.equal(table["status"], filtered(TOO_LONG)), False), TOO_LONG, FAILED)


def _with_status(table: pa.Table, values: pa.Array) -> pa.Table:
    field = JUDGMENT.field("parse_status")
    return table.set_column(table.schema.get_field_index(field.name), field, values)
