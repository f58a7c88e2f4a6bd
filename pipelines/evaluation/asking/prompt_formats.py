"""Prompt formats: the same pairs asked in other words, to see how far results depend on the wording (Figure 3b)."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.core.segment import ROWS, Rows
from pipelines.core.storage import Place
from pipelines.evaluation.config import EvaluationConfig
from pipelines.judging.tasks import PAIRWISE
from pipelines.judging.templates import identity

# Format -> template. The paper claims six (§3.2.2) and names the first five; `brackets` is ours.
FORMATS = {
    "original": "pairwise_original",
    "markdown": "pairwise_markdown",
    "json": "pairwise_json",
    "prepair": "pairwise_prepair",
    "simplified": "pairwise_simplified",
    "brackets": "pairwise_brackets",
}
OURS = ("brackets",)


def check_formats(config: EvaluationConfig, benchmarks: list[str]) -> None:
    """Check the formats of a config and the benchmarks that are to be asked in them.

    Args:
        config: `formats` and `format_benchmarks` are checked.
        benchmarks: names of the run's benchmarks.

    Raises:
        UserError: one is unknown.
    """
    if unknown := [name for name in config.formats if name not in FORMATS]:
        raise UserError(f"no format '{unknown[0]}'", where="evaluation.formats", fix=f"known: {', '.join(FORMATS)}")
    if missing := [name for name in config.format_benchmarks or () if name not in benchmarks]:
        raise UserError(f"'{missing[0]}' is not among evaluation.benchmarks", where="evaluation.format_benchmarks")


def write_formats(run: Run, config: EvaluationConfig, asked: Rows) -> Rows | None:
    """Write the pairs of the benchmarks in further formats, once a run.

    Args:
        run: whose `work` folder receives the rows.
        config: names the formats and, in `format_benchmarks`, the benchmarks.
        asked: the rows of the benchmarks.

    Returns:
        Rows to judge, each with its own `judgment_id`; None if every pair is already asked in these formats.

    Raises:
        UserError: a format or a benchmark is unknown, or the folder holds those of another config.
    """
    files = {path.stem: path for path in storage.files(asked.folder, ".parquet")}
    check_formats(config, list(files))
    chosen = config.format_benchmarks
    wanted = {name: path for name, path in files.items() if chosen is None or name in chosen}

    def write(folder: Place) -> step.Result:
        rows = storage.fresh(folder / ROWS)
        for benchmark, path in wanted.items():
            table = storage.read_table(path)
            for name in config.formats:
                if len(found := in_format(table, name)):
                    storage.write_table(rows / f"{benchmark}.{name}.parquet", found)
        return {"rows": storage.row_count(rows)}

    depends = {
        "examples": asked.fingerprint,
        "formats": identity(*(FORMATS[name] for name in config.formats)),
        "benchmarks": sorted(wanted),
    }
    folder = run.work / "formats"
    done = step.once(folder, depends, write)
    return Rows(folder / ROWS, done["fingerprint"]) if done["rows"] else None


def in_format(table: pa.Table, name: str) -> pa.Table:
    """The pairs that are not yet asked in a format, with its template and their own ids."""
    other = pc.and_(pc.equal(table["task"], PAIRWISE.name), pc.not_equal(table["template"], FORMATS[name]))
    table = table.filter(other)
    ids = pc.binary_join_element_wise(pa.scalar(name), table["judgment_id"], ":")
    for column, values in (("template", pa.array([FORMATS[name]] * len(table), pa.string())), ("judgment_id", ids)):
        table = table.set_column(table.schema.get_field_index(column), table.schema.field(column), values)
    return table
