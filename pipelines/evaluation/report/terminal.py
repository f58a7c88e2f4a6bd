"""The last screen of a run: what came out, and where it is."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from pipelines.core import storage
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.evaluation.scoring.metrics.registry import label_of
from pipelines.evaluation.scoring.results import Results
from pipelines.evaluation.scoring.robustness import Robustness

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 100


def terminal_summary(results: Results, run: Run, report: Place, width: int = WIDTH, color: bool = False) -> str:
    """One screen of text: benchmarks and task types, models side by side, and where the products are.

    Args:
        results: what `summarise` gives.
        run: where the products are.
        report: the page written by `write_report`.
        width: columns of the terminal.
        color: with escape codes for colours.
    """
    from rich.console import Console

    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=color, no_color=not color, highlight=False)
    console.print(benchmark_table(results))
    console.print(task_table(results))
    # Outside rich, so that no sentence and no path is broken over two lines.
    lines = [line.rstrip() for line in file.getvalue().splitlines()]
    lines = [line for line in lines if line]
    for comparison in results.comparison.values():
        lines += [entry.sentence for entry in comparison.tasks.values()]
    for model, per in results.robustness.items():
        lines += [f"{name}: {formats_line(model, entry)}" for name, entry in per.items()]
    first = next(iter(results.models.values()))
    if any(entry.partial for entry in first.values()):
        lines.append("* a part of the benchmark only: not to be put beside published figures")
    for name, place in {"curated set": run.curated, "model": run.model, "report": report}.items():
        lines.append(f"{name}: {place if storage.exists(place) else 'none yet'}")
    return "\n".join(lines)


def formats_line(model: str, entry: Robustness) -> str:
    """What the format of the prompt does to a model, from its best to its worst."""
    best, worst = _number(entry.formats[entry.best].value), _number(entry.worst_value)
    return f"{model} in {len(entry.formats)} prompt formats: {best} ({entry.best}) to {worst} ({entry.worst})"


def benchmark_table(results: Results) -> Table:
    """Value and interval of every model on every benchmark, and the differences."""
    models, comparisons = results.models, results.comparison
    table = _table("benchmark", [*models, *(f"{model} − {c.against}" for model, c in comparisons.items())])
    for name, entry in next(iter(models.values())).items():
        differences = [comparison.benchmarks[name] for comparison in comparisons.values()]
        table.add_row(
            name + ("*" if entry.partial else ""),
            label_of(entry.metric),
            str(entry.n),
            *(cell(per[name].value, per[name].ci_low, per[name].ci_high) for per in models.values()),
            *(cell(one.difference, one.ci_low, one.ci_high, "+") for one in differences),
        )
    return table


def task_table(results: Results) -> Table:
    """The same per task type, with the share of verdicts that could be read."""
    models = results.tasks
    table = _table("task type", [*models, *(f"{model} read" for model in models)])
    for task, entry in next(iter(models.values())).items():
        table.add_row(
            task,
            label_of(entry.metric),
            str(entry.n),
            *(cell(per[task].value, per[task].ci_low, per[task].ci_high) for per in models.values()),
            *(f"{per[task].parse_rate:.0%}" for per in models.values()),
        )
    return table


def _table(first: str, columns: list[str]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("n", justify="right", no_wrap=True)
    for column in columns:
        table.add_column(Text(column), justify="right")  # not markup: a model may be named with brackets
    return table


def cell(value: float | None, low: float | None, high: float | None, sign: str = "") -> str:
    """A value with its confidence interval, a dash where it is undefined."""
    if value is None or low is None:
        return _number(value, sign)
    return f"{_number(value, sign)} ({_number(low)}, {_number(high)})"


def _number(value: float | None, sign: str = "") -> str:
    return "–" if value is None else f"{value:{sign}.2f}"
