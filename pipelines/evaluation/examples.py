"""What a judge is asked: the rows of the benchmarks, pairwise ones in both orders side by side."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.core.config import EvaluationConfig
from pipelines.core.determinism import unit
from pipelines.core.errors import UserError
from pipelines.core.mapping import RawRecord, adapt
from pipelines.core.progress import say
from pipelines.core.readers import inputs, read_raw
from pipelines.core.records import EXAMPLE, OK, TEXT, TEXTS, Row, error, group_id, kind
from pipelines.evaluation.registry import Benchmark, load_all
from pipelines.judging import templates as judge_templates

GIVEN, SWAPPED = "given", "swapped"
FLIP = {"A": "B", "B": "A"}
# A row of EXAMPLE as one judge sees it once. `row_id` is the same in both orders.
ASKED = pa.schema(
    [
        *EXAMPLE,
        pa.field("judgment_id", TEXT),  # unique over a whole run
        pa.field("benchmark", TEXT),
        pa.field("subset", TEXT),
        pa.field("order", TEXT),  # given | swapped
        pa.field("template", TEXT),
        pa.field("gold", TEXT),  # the right verdict in the letters of the order shown; absolute: a score
        pa.field("generators", TEXTS),  # who wrote each response, where the benchmark says
        pa.field("found", pa.int32()),  # rows the loader found in the benchmark's files, sampled or not
    ]
)


def flip(verdict: str) -> str:
    """The same verdict when the two responses change places."""
    return FLIP.get(verdict, verdict)


def benchmark_examples(
    names: list[str],
    data_root: Path | None,
    sample: int | None = None,
    seed: int = 0,
    templates: dict[str, str] | None = None,
) -> pa.Table:
    """The rows of some benchmarks, in the order named, as a table of schema ASKED.

    Args:
        names: packaged benchmarks, or paths of YAML files.
        data_root: folder of local files.
        sample: rows of each benchmark, those of smallest hash; None for all.
        seed: of the sample.
        templates: task -> template, in place of the benchmark's own.

    Raises:
        UserError: a benchmark is not known, or its files are missing or cannot be read.
    """
    rows = [row for b in load_all(names) for row in asked(b, data_root, sample, seed, templates)]
    return pa.Table.from_pylist(rows, schema=ASKED)


def write_examples(folder: Path, config: EvaluationConfig, data_root: Path | None, seed: int) -> Path:
    """Write one parquet file per benchmark, put in place when all are whole; one is in memory at a time.

    Raises:
        UserError: a benchmark is not known, or its files are missing or cannot be read.
    """
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        benchmarks = load_all(config.benchmarks)
        if unknown := sorted(set(config.whole) - {benchmark.name for benchmark in benchmarks}):
            raise UserError(f"no benchmark '{unknown[0]}' in evaluation.benchmarks", where="evaluation.whole")
        for benchmark in benchmarks:
            if doubt := unconfirmed(benchmark, data_root):
                say(f"{benchmark.name}, to confirm: {doubt}")
            rows = list(asked(benchmark, data_root, config.sample_of(benchmark.name), seed, config.templates))
            pq.write_table(pa.Table.from_pylist(rows, schema=ASKED), draft / f"{benchmark.name}.parquet")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


def unconfirmed(benchmark: Benchmark, data_root: Path | None) -> str:
    """What nobody has yet checked against the real data of a benchmark, in the form that is here.

    Raises:
        UserError: a local file is missing.
    """
    from_hub = any(source.path is None for source in inputs(benchmark, data_root))
    hub = benchmark.hub.to_confirm if benchmark.hub and from_hub else ""
    return "; ".join(text for text in (benchmark.to_confirm, hub) if text)


def asked(
    benchmark: Benchmark,
    data_root: Path | None,
    sample: int | None = None,
    seed: int = 0,
    templates: dict[str, str] | None = None,
) -> Iterator[Row]:
    """The rows of one benchmark; a row that cannot be read is there too, with its status."""
    template = judge_templates.load((templates or {}).get(benchmark.task) or benchmark.template_name)
    if template.task not in (benchmark.task, "any"):
        raise UserError(f"template '{template.name}' is for the task {template.task}", where=benchmark.name)
    rows = [row for raw in read_raw(benchmark, data_root) for row in _adapted(benchmark, raw)]
    if not rows:
        raise UserError("the benchmark's files hold no rows", where=f"benchmark '{benchmark.name}'")
    _number_duplicates(rows)
    found = len(rows)
    for row in _sampled(rows, benchmark, sample, seed):
        row |= {"benchmark": benchmark.name, "template": template.name, "order": GIVEN, "found": found}
        row |= {"gold": row["verdict"], "judgment_id": f"{benchmark.name}:{row['row_id']}:{GIVEN}"}
        yield row
        if benchmark.task == "pairwise" and benchmark.orders == "both" and kind(row["status"]) == OK:
            yield swapped(row)


def swapped(row: Row) -> Row:
    """The row with its two responses in the other order."""
    verdict = flip(row["verdict"])
    return {
        **row,
        "responses": row["responses"][::-1],
        "generators": row["generators"] and row["generators"][::-1],
        "verdict": verdict,
        "gold": verdict,
        "order": SWAPPED,
        "judgment_id": f"{row['benchmark']}:{row['row_id']}:{SWAPPED}",
    }


def _adapted(benchmark: Benchmark, raw: RawRecord) -> list[Row]:
    rows = adapt(benchmark, raw)
    for row in rows:
        row["subset"] = _subset(benchmark, row, raw)
        row["generators"], unsigned = _generators(row)
        # An instruction may be the same in every row, and the context what tells them apart: rows that share
        # both are not independent, and the bootstrap draws them together.
        row["group_id"] = group_id(f"{row['instruction'] or ''} {row['context'] or ''}")
        if row["status"] == OK and (problem := _problem(row) or _unplaced(row, benchmark) or unsigned):
            row["status"] = error(problem)
    return rows


def _subset(benchmark: Benchmark, row: Row, raw: RawRecord) -> str | None:
    if benchmark.subset_file:
        match = re.search(benchmark.subset_file, raw.where)
        return match[1] if match else None
    subset = row.get("subset")
    return None if subset is None else str(subset)


def _generators(row: Row) -> tuple[list[str | None] | None, str | None]:
    """Who wrote each response, or None and, where the mapping does say something, what is wrong with it."""
    names = row.get("generators")
    if names is None:
        return None, None
    if not isinstance(names, list) or len(names) != len(row["responses"] or []):
        return None, "generators_not_one_per_response"
    return [None if name is None else str(name) for name in names], None


def _problem(row: Row) -> str | None:
    """Why a row cannot be judged or scored; an empty response can."""
    if not row["instruction"]:
        return "null_instruction"
    if any(text is None for text in row["responses"]):
        return "null_response"
    if row["task"] != "absolute":
        return None if row["verdict"] in row["allowed"] else "gold_not_allowed"
    try:
        score = float(row["verdict"])
    except ValueError:
        return "gold_not_a_number"
    scale = [float(verdict) for verdict in row["allowed"]]
    return None if math.isfinite(score) and min(scale) <= score <= max(scale) else "gold_not_on_the_scale"


def _unplaced(row: Row, benchmark: Benchmark) -> str | None:
    """A row of a subset that no section has would vanish from the headline."""
    known = not benchmark.sections or any(row["subset"] in subsets for subsets in benchmark.sections.values())
    return None if known else "subset_in_no_section"


def _number_duplicates(rows: list[Row]) -> None:
    """Exact duplicates stay, as in the published figures; from the second on, row_id says which one it is."""
    seen: dict[str, int] = {}
    for row in rows:
        key = row["row_id"]
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            row["row_id"] = f"{key}-{seen[key]}"


def _sampled(rows: list[Row], benchmark: Benchmark, sample: int | None, seed: int) -> list[Row]:
    """The `sample` rows of smallest hash, in their old order; whole items of a best-of benchmark, maybe fewer."""
    if sample is None or sample >= len(rows):
        return rows
    purpose = f"sample:{benchmark.name}"
    if not benchmark.best_of:
        ids = sorted((unit(seed, purpose, row["row_id"]), row["row_id"]) for row in rows)
        kept = {row_id for _, row_id in ids[:sample]}
        return [row for row in rows if row["row_id"] in kept]
    sizes = Counter((row["group_id"], row["subset"]) for row in rows)
    items = sorted(sizes, key=lambda item: (unit(seed, purpose, f"{item[0]} {item[1]}"), item))
    chosen = {item for item, end in zip(items, accumulate(sizes[item] for item in items), strict=True) if end <= sample}
    return [row for row in rows if (row["group_id"], row["subset"]) in chosen]
