"""A cell is a domain, a task and a prompt format; which rows are asked in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import NamedTuple

from pipelines.core import storage
from pipelines.core.determinism import digest, unit
from pipelines.core.errors import UserError
from pipelines.core.records import OK, Row
from pipelines.core.run import Run
from pipelines.evaluation.asking.benchmark_rows import GIVEN, SWAPPED, write_benchmark_rows
from pipelines.evaluation.asking.prompt_formats import FORMATS
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.evaluation.config import EvaluationConfig
from pipelines.experiments.transfer.config import TransferConfig
from pipelines.experiments.trials.heldout import question
from pipelines.judging.count_tokens import TokenCounter
from pipelines.judging.tasks import TASKS

FOR_ALL = ("original", "compact")


class Part(NamedTuple):
    """Subsets of a benchmark that belong to a domain."""

    named: str  # a name, or the path of a YAML file
    benchmark: str
    pattern: str


class Cell(NamedTuple):
    """Where a judge is asked."""

    domain: str
    task: str
    format: str

    def __str__(self) -> str:
        return f"{self.domain}, {self.task}, {self.format}"


def parts_of(domains: Mapping[str, Sequence[str]]) -> dict[str, list[Part]]:
    """Domain -> its parts of benchmarks.

    Raises:
        UserError: a benchmark is unknown, or one is named twice in a domain.
    """
    found = {}
    for domain, names in domains.items():
        parts = []
        for name in names:
            named, _, pattern = (one.strip() for one in name.partition(":"))
            parts.append(Part(named, BENCHMARKS.load(named).name, pattern or "*"))
        if len({part.benchmark for part in parts}) < len(parts):
            fix = "use one pattern, such as [ab]*"
            raise UserError("a benchmark comes twice", where=f"transfer.domains.{domain}", fix=fix)
        found[domain] = parts
    return found


def template_of(task: str, form: str) -> str | None:
    """The template of a task in a format; None where it has none."""
    if form in FOR_ALL:
        return f"{task}_{form}"
    return FORMATS[form] if task == "pairwise" else None


def cells_of(config: TransferConfig) -> list[Cell]:
    """The cells that a config asks for, in its order.

    Raises:
        UserError: as `parts_of`, or a format comes twice.
    """
    if len(set(config.formats)) < len(config.formats):
        raise UserError(f"a format comes twice: {', '.join(config.formats)}", where="transfer.formats")
    found = []
    for domain, parts in parts_of(config.domains).items():
        own = {BENCHMARKS.load(part.named).task for part in parts}
        for task in (task for task in TASKS if task in own):
            found += [Cell(domain, task, form) for form in config.formats if template_of(task, form)]
    return found


def write_rows(run: Run, config: TransferConfig) -> tuple[list[Row], str]:
    """The rows of all benchmarks that a domain has a part of, whole, and their fingerprint.

    Raises:
        UserError: a benchmark cannot be read.
    """
    names = list(dict.fromkeys(part.named for parts in parts_of(config.domains).values() for part in parts))
    own = replace(run, out=run.experiments / "heldout" / digest(names, size=6))
    rows = write_benchmark_rows(own, EvaluationConfig(benchmarks=names))
    return storage.read_table(rows.folder).to_pylist(), rows.fingerprint


def ask(
    rows: Sequence[Row], config: TransferConfig, seed: int, counter: TokenCounter
) -> tuple[list[Row], dict[str, int]]:
    """The judgments of all cells, each with its cell in the place of its benchmark; and how many rows were too long.

    A row is asked in all formats of its task or in none, so that formats are compared on the same rows. Pairs are asked
    in one order, by hash.

    Raises:
        UserError: a part of a domain has no row, or no row is short enough.
    """
    asked: list[Row] = []
    left_out: dict[str, int] = {}
    for domain, parts in parts_of(config.domains).items():
        for part in parts:
            fit = []
            own = chosen(rows, part, config.sample, seed)
            if not own:
                raise UserError(nothing(rows, part), where=f"transfer.domains.{domain}: {part.named}")
            for row in own:
                made = in_formats(row, domain, config)
                if max(counter.prompts([one["prompt"] for one in made]), default=0) > config.max_tokens:
                    left_out[domain] = left_out.get(domain, 0) + 1
                    continue
                fit += made
            asked += fit
    if not asked:
        raise UserError("no row is short enough", where="transfer.max_tokens", fix="raise it")
    return asked, left_out


def nothing(rows: Sequence[Row], part: Part) -> str:
    """Why a part of a domain has no row."""
    known = sorted({row["subset"] or "" for row in rows if row["benchmark"] == part.benchmark and row["status"] == OK})
    if part.pattern == "*" or not known:
        return "the benchmark has no usable row"
    return f"no subset matches '{part.pattern}', of {', '.join(map(repr, known))}"[:300]


def chosen(rows: Sequence[Row], part: Part, sample: int | None, seed: int) -> list[Row]:
    """The rows of a part of a benchmark, or a sample of them by hash, each pair in one order."""
    own = [
        row
        for row in rows
        if row["benchmark"] == part.benchmark
        and row["status"] == OK
        and fnmatchcase(row["subset"] or "", part.pattern)
        and row["order"] == order_of(row, seed)
    ]
    return sorted(own, key=lambda row: unit(seed, "sample of a domain", str(row["row_id"])))[:sample]


def order_of(row: Row, seed: int) -> str:
    """The order in which a pair is shown."""
    ordered = TASKS[row["task"]].ordered
    return SWAPPED if ordered and unit(seed, "order of a domain's pair", str(row["row_id"])) < 0.5 else GIVEN


def in_formats(row: Row, domain: str, config: TransferConfig) -> list[Row]:
    """A row as the judgments of all formats of its task."""
    found = []
    for form in config.formats:
        if template := template_of(row["task"], form):
            cell = Cell(domain, row["task"], form)
            made = question({**row, "template": template})
            found.append({**made, "benchmark": str(cell), "judgment_id": f"{cell}: {row['judgment_id']}"})
    return found
