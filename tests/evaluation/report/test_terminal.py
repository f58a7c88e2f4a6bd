"""The last screen of a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines.core.run import Run
from pipelines.evaluation.report.terminal import cell, terminal_summary
from pipelines.evaluation.scoring.results import Results, summarise
from tests.evaluation.report.conftest import Page


def test_the_terminal_names_the_best_and_the_worst_format(in_formats: tuple[Results, Page], tmp_path: Path) -> None:
    found, _ = in_formats
    entry = found.robustness["trained"]["heldout_pairwise"]
    best = entry.formats[entry.best].value
    ends = f"{best:.2f} ({entry.best}) to {entry.worst_value:.2f} ({entry.worst})"
    text = terminal_summary(found, Run(tmp_path), tmp_path / "report.html")
    assert f"heldout_pairwise: trained in 3 prompt formats: {ends}" in text


def test_the_terminal_summary_fits_a_screen_and_ends_with_the_places(written: tuple[Any, Results, Page]) -> None:
    run, found, _ = written
    (run.out / "model").mkdir()
    path = run.run.report
    lines = terminal_summary(found, run.run, path).splitlines()
    assert len(lines) <= 24
    assert lines[-3:] == [
        f"curated set: {run.out / 'curated'}",
        f"model: {run.out / 'model'}",
        f"report: {path}",
    ]
    assert max(len(line) for line in lines[:-3] if "interval" not in line) <= 100
    text = "\n".join(lines)
    for per in found.models.values():
        for name, entry in per.items():
            assert f"{name}*" in text
            interval = f" ({entry.ci_low:.2f}, {entry.ci_high:.2f})" if entry.ci_low is not None else ""
            assert f"{entry.value:.2f}{interval}" in text
    assert "a part of the benchmark only" in text


def test_the_terminal_summary_says_what_is_not_there(make_run: Callable, two_models: dict) -> None:
    run = make_run({"[red]m[/red]": two_models["base"]}, ["heldout_absolute"])
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    text = terminal_summary(found, run.run, run.out / "nowhere.html")
    assert "[red]m[/red]" in text
    assert text.splitlines()[-3:] == ["curated set: none yet", "model: none yet", "report: none yet"]


def test_values_have_intervals_where_there_are_some_and_differences_have_signs() -> None:
    assert cell(0.5, 0.25, 0.75) == "0.50 (0.25, 0.75)"
    assert cell(0.125, -0.25, 0.75, "+") == "+0.12 (-0.25, 0.75)"
    assert cell(0.5, None, None) == "0.50"
    assert cell(None, None, None) == cell(None, 0.1, 0.2) == "–"


def test_a_whole_benchmark_has_no_star(make_run: Callable, two_models: dict) -> None:
    run = make_run({"base": two_models["base"]}, ["heldout_absolute"])
    text = terminal_summary(summarise(run.judgments, run.examples, run.config, seed=0), run.run, run.run.report)
    assert "heldout_absolute" in text and "*" not in text
    assert re.search(r"^ ?absolute\s+r\s+60\s", text, re.MULTILINE)
