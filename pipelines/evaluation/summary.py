"""The last screen of a run: what came out, and where it is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Results = dict[str, Any]
WIDTH = 100


def terminal_summary(results: Results, out_dir: Path, report: Path, width: int = WIDTH, color: bool = False) -> str:
    """One screen of text: benchmarks and task types, models side by side, and where the products are.

    Args:
        results: what `summarise` gives.
        out_dir: the run's folder.
        report: the page written by `write_report`.
        width: columns of the terminal.
        color: with escape codes for colours.
    """
    from rich.console import Console

    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=color, no_color=not color, highlight=False, markup=False)
    console.print(benchmark_table(results))
    console.print(task_table(results))
    for comparison in results["comparison"].values():
        for entry in comparison["tasks"].values():
            console.print(entry["sentence"])
    first = next(iter(results["models"].values()))
    if any(entry["partial"] for entry in first.values()):
        console.print("* a part of the benchmark only: not to be put beside published figures")
    # Outside rich, so that a path is never broken over two lines.
    text = "\n".join(line.rstrip() for line in file.getvalue().splitlines())
    places = {"curated set": out_dir / "curated", "model": out_dir / "model", "report": report}
    found = [f"{name}: {path if path.exists() else 'none yet'}" for name, path in places.items()]
    return "\n".join([text, "", *found])


def benchmark_table(results: Results) -> Table:
    """Value and interval of every model on every benchmark, and the differences."""
    first = next(iter(results["models"].values()))
    table = _table("benchmark", "metric", "n", results)
    for name, entry in first.items():
        table.add_row(
            name + ("*" if entry["partial"] else ""),
            entry["metric"],
            str(entry["n"]),
            *(_cell(per[name]) for per in results["models"].values()),
            *(_cell(c["benchmarks"][name], "difference") for c in results["comparison"].values()),
        )
    return table


def task_table(results: Results) -> Table:
    """The same per task type, with the share of verdicts that could be read."""
    table = _table("task type", "metric", "n", results)
    for task, entry in next(iter(results["tasks"].values())).items():
        table.add_row(
            task,
            entry["metric"],
            str(entry["n"]),
            *(f"{_cell(per[task])} {per[task]['parse_rate']:.0%} read" for per in results["tasks"].values()),
            *(_cell(c["tasks"][task], "difference") for c in results["comparison"].values()),
        )
    return table


def _table(first: str, second: str, third: str, results: Results) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    table.add_column(second)
    table.add_column(third, justify="right")
    for model in results["models"]:
        table.add_column(model, justify="right")
    for model, comparison in results["comparison"].items():
        table.add_column(f"{model} − {comparison['against']}", justify="right")
    return table


def _cell(entry: dict[str, Any], key: str = "value") -> str:
    sign = "+" if key == "difference" else ""
    if entry[key] is None:
        return "–"
    if entry["ci_low"] is None:
        return f"{entry[key]:{sign}.2f}"
    return f"{entry[key]:{sign}.2f} [{entry['ci_low']:{sign}.2f}, {entry['ci_high']:{sign}.2f}]"
