"""From judgments to results.json: every model and benchmark, the tasks, and the models compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq

from pipelines.core.config import EvaluationConfig
from pipelines.core.determinism import integer
from pipelines.core.errors import UserError
from pipelines.core.files import write_json
from pipelines.core.records import JUDGED, OK
from pipelines.core.segment import folder_schema
from pipelines.evaluation import intervals, metrics
from pipelines.evaluation.examples import ASKED
from pipelines.evaluation.registry import METRIC_OF_TASK, PAPER_BENCHMARKS, Benchmark, load_all

Results = dict[str, Any]
JUDGMENT = pa.schema([*ASKED, *JUDGED])
REQUIRED = ("n", "metric", "value", "ci_low", "ci_high", "parse_rate", "partial")
_READ = (
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
    "output_tokens",
    "latency",
)


@dataclass(frozen=True)
class Scored:
    """One model on one benchmark.

    Attributes:
        entry: what results.json says.
        table: one line per example: group_id and points, or score and gold.
        draws: bootstrap values of the headline, shape (B,); None where there is only one group.
    """

    entry: dict[str, Any]
    table: pd.DataFrame
    draws: intervals.Floats | None = field(repr=False)


def write_judgments(judged: Path, examples: Path, out: Path) -> Path:
    """Write all judgments of one model as one parquet file, with the rows no judge could be asked about.

    Sorted by benchmark, row and order, so that equal judgments make equal files; what `summarise` reads.

    Args:
        judged: folder of the judged rows.
        examples: folder of the rows asked about.
        out: the file to write.
    """
    asked = pads.dataset(str(examples), format="parquet", schema=JUDGMENT)
    table = pa.concat_tables(
        [
            pads.dataset(str(judged), format="parquet", schema=JUDGMENT).to_table(),
            asked.to_table(filter=pc.field("status") != OK),
        ]
    ).sort_by([("benchmark", "ascending"), ("row_id", "ascending"), ("order", "ascending")])
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.tmp")
    pq.write_table(table, draft)
    draft.replace(out)
    return out


def summarise(
    judgments: dict[str, Path], benchmarks: list[str], config: EvaluationConfig, seed: int
) -> Results:
    """Everything the report shows, from the judgments alone: no model is needed to score them again.

    Args:
        judgments: model -> its parquet file or folder (see `write_judgments`); the first is compared against.
        benchmarks: their names, in the order shown.
        config: bootstrap, confidence and sample.
        seed: of the bootstrap and the `random` protocol.

    Raises:
        UserError: judgments are missing, or a benchmark has none.
    """
    loaded = load_all(benchmarks)
    scored: dict[str, dict[str, Scored]] = {}
    for model, path in judgments.items():
        frame = read_judgments(path)
        scored[model] = {b.name: score(frame, b, config, seed, path) for b in loaded}
    results = {
        "models": {m: {name: s.entry for name, s in per.items()} for m, per in scored.items()},
        "tasks": {m: tasks(per, loaded, config) for m, per in scored.items()},
        "comparison": comparisons(scored, loaded, config, seed),
        "overall": {m: overall(per) for m, per in scored.items()},
        "settings": {
            "seed": seed,
            "confidence": config.confidence,
            "bootstrap": config.bootstrap,
            "sample": config.sample,
            "max_tokens": config.max_tokens,
            "engine": config.engine.model_dump(mode="json"),
            "protocols": {
                "headline": "pairwise: mean of both orders; classification: accuracy; absolute: Pearson",
                "unparsed": "a verdict that cannot be read is wrong; for Pearson it takes the middle of the scale",
                "interval": "percentile bootstrap over groups of rows with the same instruction and context",
                "tasks": "unweighted mean over the benchmarks of the task",
                **metrics.PROTOCOLS,
            },
            "benchmarks": {b.name: _about(b) for b in loaded},
        },
    }
    return plain(results)


def read_judgments(path: Path) -> pd.DataFrame:
    """The columns that scoring needs, one line per judgment, with `outcome` added.

    `outcome` is the parse status, `failed` where the judge gave no answer at all (a prompt longer than its context,
    say), or `unasked` where the row itself could not be judged.

    Raises:
        UserError: there are no judgments there.
    """
    if not path.exists():
        raise UserError("no judgments", where=str(path), fix="run the benchmark job first")
    if path.is_dir():
        folder_schema(path)
    table = pads.dataset(str(path), format="parquet").to_table(columns=list(_READ))
    frame = pd.DataFrame(table.to_pydict()).sort_values(["benchmark", "row_id", "order"], ignore_index=True)
    parsed = frame["parse_status"].where(frame["parse_status"].notna(), "failed")
    parsed = parsed.where(frame["status"] == OK, "failed")
    # A row that was turned away before any judge saw it has no readable gold verdict either way.
    frame["outcome"] = parsed.where(~frame["status"].map(_unasked), "unasked")
    return frame


def _unasked(status: str) -> bool:
    raise NotImplementedError
