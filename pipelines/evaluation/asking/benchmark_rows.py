"""What a judge is asked: the rows of the benchmarks, pairs in both orders one after the other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate

import pyarrow as pa

from pipelines.core import step, storage
from pipelines.core.determinism import unit
from pipelines.core.errors import UserError
from pipelines.core.ledger import short_reason, top
from pipelines.core.progress import say
from pipelines.core.records import EXAMPLE, OK, TEXT, TEXTS, Row, error, group_id, kind
from pipelines.core.run import Run
from pipelines.core.segment import ROWS, Rows
from pipelines.core.stage import to_table
from pipelines.core.storage import Place
from pipelines.datasets.readers import contents, inputs, read_raw
from pipelines.datasets.spec import RawRecord, adapt
from pipelines.evaluation.benchmarks.registry import BENCHMARKS, Benchmark
from pipelines.evaluation.config import EvaluationConfig
from pipelines.judging.tasks import TASKS
from pipelines.judging.templates import identity, load

GIVEN, SWAPPED = "given", "swapped"
# A row of EXAMPLE as one judge sees it once. `row_id` is the same in both orders.
BENCHMARK_ROW = pa.schema(
    [
        *EXAMPLE,
        pa.field("judgment_id", TEXT),  # unique in a run
        pa.field("benchmark", TEXT),
        pa.field("subset", TEXT),
        pa.field("order", TEXT),  # given | swapped
        pa.field("template", TEXT),
        pa.field("gold", TEXT),  # the right verdict in the letters of the order shown; absolute: a score
        pa.field("generators", TEXTS),  # who wrote each response, where the benchmark says
        pa.field("found", pa.int32()),  # rows in the benchmark's files, before sampling
    ]
)


def write_benchmark_rows(run: Run, config: EvaluationConfig) -> Rows:
    """Write the rows of all benchmarks once a run, one parquet file each; one benchmark is in memory at a time.

    Raises:
        UserError: a benchmark is unknown or has no row to ask about, its files are missing or unreadable, or the folder
            holds those of another config.
    """
    benchmarks = benchmarks_of(config)

    def write(folder: Place) -> None:
        rows = storage.fresh(folder / ROWS)
        for benchmark in benchmarks:
            if doubt := unconfirmed(benchmark, run.data_root):
                say(f"{benchmark.name}, to confirm: {doubt}")
            sample = config.sample_of(benchmark.name)
            found = list(benchmark_rows(benchmark, run.data_root, sample, run.seed, config.templates))
            _require_rows(benchmark, found)
            storage.write_table(rows / f"{benchmark.name}.parquet", pa.Table.from_pylist(found, BENCHMARK_ROW))

    depends = {
        "benchmarks": {benchmark.name: benchmark.identity() for benchmark in benchmarks},
        "files": {benchmark.name: contents(benchmark, run.data_root) for benchmark in benchmarks},
        "sample": config.sample,
        "whole": sorted(config.whole),
        "seed": run.seed,
        "templates": {b.name: identity(template_of(b, config.templates)) for b in benchmarks},
    }
    folder = run.work / "examples"
    return Rows(folder / ROWS, step.once(folder, depends, write)["fingerprint"])


def _require_rows(benchmark: Benchmark, rows: list[Row]) -> None:
    """Refuse a benchmark without a row to ask about before any judge starts: it could not be scored."""
    if any(row["status"] == OK for row in rows):
        return
    why = top(Counter(short_reason(row["status"]) for row in rows))
    raise UserError(
        f"none of its {len(rows)} rows can be asked about{f': {why}' if why else ''}",
        where=f"benchmark '{benchmark.name}'",
        fix="mend its YAML or its files, or leave it out",
    )


def benchmarks_of(config: EvaluationConfig) -> list[Benchmark]:
    """The benchmarks of a config, in its order.

    Raises:
        UserError: one is unknown or not well formed, or `whole` names one that is not among them.
    """
    benchmarks = BENCHMARKS.load_all(config.benchmarks, "evaluation.benchmarks")
    if unknown := sorted(set(config.whole) - {benchmark.name for benchmark in benchmarks}):
        raise UserError(f"no benchmark '{unknown[0]}' in evaluation.benchmarks", where="evaluation.whole")
    return benchmarks


def benchmark_examples(
    names: list[str],
    data_root: Place | None,
    sample: int | None = None,
    seed: int = 0,
    templates: Mapping[str, str] | None = None,
) -> pa.Table:
    """The rows of some benchmarks, in the order named, as a table of schema BENCHMARK_ROW.

    Args:
        names: packaged benchmarks, or paths of YAML files.
        data_root: folder of local files.
        sample: rows of each benchmark, those of smallest hash; None for all.
        seed: of the sample.
        templates: task -> template, in place of the benchmark's own.

    Raises:
        UserError: a benchmark is unknown, or its files are missing or unreadable.
    """
    benchmarks = BENCHMARKS.load_all(names, "benchmarks")
    rows = [row for b in benchmarks for row in benchmark_rows(b, data_root, sample, seed, templates)]
    return pa.Table.from_pylist(rows, BENCHMARK_ROW)


def benchmark_rows(
    benchmark: Benchmark,
    data_root: Place | None,
    sample: int | None = None,
    seed: int = 0,
    templates: Mapping[str, str] | None = None,
) -> Iterator[Row]:
    """The rows of one benchmark; a row that cannot be judged is among them, with its status.

    Raises:
        UserError: the files are missing, unreadable or empty, or the template is for another task.
    """
    template = template_of(benchmark, templates)
    adapted = [row for raw in read_raw(benchmark, data_root) for row in _adapted(benchmark, raw)]
    rows = to_table(adapted, BENCHMARK_ROW).to_pylist()  # a row that cannot be stored is not to be swapped either
    if not rows:
        raise UserError("the benchmark's files hold no rows", where=f"benchmark '{benchmark.name}'")
    _number_duplicates(rows)
    both = TASKS[benchmark.task].ordered and benchmark.orders == "both"
    found = len(rows)
    for row in _sampled(rows, benchmark, sample, seed):
        row |= {"benchmark": benchmark.name, "template": template, "order": GIVEN, "found": found}
        row |= {"gold": row["verdict"], "judgment_id": f"{benchmark.name}:{row['row_id']}:{GIVEN}"}
        yield row
        if both and kind(row["status"]) == OK:
            yield swapped(row)


def template_of(benchmark: Benchmark, templates: Mapping[str, str] | None) -> str:
    """The prompt template of a benchmark, by the name or path it is loaded by.

    Raises:
        UserError: it is unknown, or for another task.
    """
    name = (templates or {}).get(benchmark.task) or benchmark.template_name
    if (task := load(name).task) not in (benchmark.task, "any"):
        raise UserError(f"template '{name}' is for the task {task}", where=benchmark.name)
    return name


def unconfirmed(benchmark: Benchmark, data_root: Place | None) -> str:
    """What has not been checked yet against the real data of a benchmark, in the form that this run reads.

    Raises:
        UserError: a local file is missing.
    """
    from_hub = any(source.path is None for source in inputs(benchmark, data_root))
    hub = benchmark.hub.to_confirm if benchmark.hub and from_hub else ""
    return "; ".join(text for text in (benchmark.to_confirm, hub) if text)


def swapped(row: Row) -> Row:
    """The row with its two responses in the other order."""
    verdict = TASKS[row["task"]].opposite(row["verdict"])
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
        row["group_id"] = _group(row)
        if row["status"] == OK and (problem := _problem(row) or _unplaced(row, benchmark) or unsigned):
            row["status"] = error(problem)
    return rows


def _group(row: Row) -> str:
    """What related rows share: they are not independent.

    Without the benchmark's own word, instruction and context: the instruction alone may be the same in every row.
    """
    named = row.get("group")
    return group_id(f"{row['instruction'] or ''} {row['context'] or ''}" if named is None else f"group {named}")


def _subset(benchmark: Benchmark, row: Row, raw: RawRecord) -> str | None:
    if benchmark.subset_file:
        match = re.search(benchmark.subset_file, raw.where)
        return match[1] if match else None
    subset = row.get("subset")
    return None if subset is None else str(subset)


def _generators(row: Row) -> tuple[list[str | None] | None, str | None]:
    """Who wrote each response; or None and, if the benchmark's expression gave something unusable, the problem."""
    names = row.get("generators")
    if names is None:
        return None, None
    if not isinstance(names, list) or len(names) != len(row["responses"] or []):
        return None, "generators_not_one_per_response"
    return [None if name is None else str(name) for name in names], None


def _problem(row: Row) -> str | None:
    """Why a row cannot be judged or scored; an empty response can be."""
    if not row["instruction"]:
        return "null_instruction"
    if any(text is None for text in row["responses"]):
        return "null_response"
    task, allowed = TASKS[row["task"]], row["allowed"]
    if not allowed or None in allowed or task.problem_of_verdicts(allowed):
        return "unusable_verdicts"
    return task.problem_of_gold(row["verdict"], allowed)


def _unplaced(row: Row, benchmark: Benchmark) -> str | None:
    """A row whose subset is in no section would silently be missing from the headline."""
    known = not benchmark.sections or any(row["subset"] in subsets for subsets in benchmark.sections.values())
    return None if known else "subset_in_no_section"


def _number_duplicates(rows: list[Row]) -> None:
    """Keep exact duplicates, as the published figures do; from the second on, the row_id carries a number."""
    seen: dict[str, int] = {}
    for row in rows:
        key = row["row_id"]
        seen[key] = seen.get(key, 0) + 1
        if seen[key] > 1:
            row["row_id"] = f"{key}-{seen[key]}"


def _sampled(rows: list[Row], benchmark: Benchmark, sample: int | None, seed: int) -> list[Row]:
    """The `sample` rows of smallest hash, in their old order; of a best-of benchmark, whole items, so maybe fewer."""
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
