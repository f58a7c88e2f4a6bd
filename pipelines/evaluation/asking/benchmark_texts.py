"""The texts of the benchmarks, in one file: curation keeps them out of the training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pyarrow as pa

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.records import filtered
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.datasets.readers import contents, inputs, read_raw
from pipelines.datasets.spec import adapt
from pipelines.evaluation.benchmarks.registry import BENCHMARKS, Benchmark

WORDING = 10  # other texts beside one
LONG = 20  # words of a context that is a document whatever stands beside it
TEXTS = pa.schema([("benchmark", pa.string()), ("text", pa.string())])


def texts_file(run: Run) -> Place:
    """Where the texts of a run's benchmarks are, once they are written."""
    return run.work / "benchmark_texts" / "texts.parquet"


def write_texts(run: Run, benchmarks: Sequence[str], keep: Callable[[Place], bool] | None = None) -> Place:
    """Write instruction and context of every benchmark row, once a run.

    Packaged benchmarks that `benchmarks` does not name are added if their files are on this machine. Where the texts
    have changed since, the file changes too, unless `keep` says that the old one still serves.

    Args:
        run: whose `work` folder receives the file.
        benchmarks: names and YAML paths; all of them must be readable.
        keep: told a file (benchmark, text) of the texts that the old one lacks.

    Returns:
        The file.

    Raises:
        UserError: a benchmark in `benchmarks` cannot be read.
    """
    wanted = BENCHMARKS.load_all(list(benchmarks), "evaluation.benchmarks")
    known = {benchmark.name for benchmark in wanted}
    others = [BENCHMARKS.load(name) for name in BENCHMARKS.names() if name not in known]
    more = [benchmark for benchmark in others if _is_local(benchmark, run.data_root)]
    every = sorted([*wanted, *more], key=lambda benchmark: benchmark.name)

    latest = texts_file(run).parent / "latest" / "texts.parquet"

    def write(folder: Place) -> None:
        with storage.table_writer(latest, TEXTS) as writer:
            for benchmark in every:
                texts = sorted(texts_of(benchmark, run.data_root))
                columns = {"benchmark": [benchmark.name] * len(texts), "text": texts}
                writer.write_table(pa.table(columns, schema=TEXTS))
        absent = [benchmark.name for benchmark in others if benchmark not in more]
        without = f", without {', '.join(absent)}: no local files" if absent else ""
        say(f"decontamination: against {len(every)} benchmarks{without}")

    depends = {
        "benchmarks": {benchmark.name: benchmark.identity() for benchmark in every},
        "files": {benchmark.name: contents(benchmark, run.data_root) for benchmark in every},
    }
    step.once(latest.parent, depends, write, cheap=True)
    table = storage.read_table(latest)
    if storage.exists(texts_file(run)):
        old = set(_pairs(storage.read_table(texts_file(run))))
        seen = [pair in old for pair in _pairs(table)]
        if all(seen) and len(seen) == len(old):
            return texts_file(run)
        added = latest.with_name("added.parquet")
        storage.write_table(added, table.filter(pa.array([not one for one in seen], pa.bool_())))
        if keep is not None and keep(added):
            return texts_file(run)
    storage.write_table(texts_file(run), table)
    return texts_file(run)


def texts_of(benchmark: Benchmark, data_root: Place | None) -> set[str]:
    """The distinct instructions and contexts of a benchmark, without those that are the wording of its task.

    An instruction that goes with more than `WORDING` contexts (`Summarize the document.`) says what to do and not
    what was asked; so does a short context that goes with as many instructions (`You are a helpful assistant.`). A
    source may use the same words, and none of its rows would be left.

    Rows that a benchmark of ours leaves out by its `where` are public all the same, and others score judges on them.
    The `where` of a user's own file says which part of some data is held out, so that the rest may be trained on.

    Raises:
        UserError: a file cannot be read.
    """
    rows = [row for raw in read_raw(benchmark, data_root) for row in adapt(benchmark, raw)]
    if benchmark.name not in BENCHMARKS.names():
        left_out = {filtered(reason) for reason in benchmark.where}
        rows = [row for row in rows if row["status"] not in left_out]
    pairs = {(row["instruction"] or "", row["context"] or "") for row in rows}
    contexts = Counter(instruction for instruction, context in pairs if context)
    instructions = Counter(context for _, context in pairs)
    kept = {instruction for instruction, _ in pairs if contexts[instruction] <= WORDING}
    kept |= {context for _, context in pairs if instructions[context] <= WORDING or len(context.split()) >= LONG}
    return kept - {""}


def _pairs(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["benchmark"].to_pylist(), table["text"].to_pylist(), strict=True))


def _is_local(benchmark: Benchmark, data_root: Place | None) -> bool:
    try:
        return all(source.path is not None for source in inputs(benchmark, data_root))
    except UserError:
        return False
