"""One model on one benchmark: why a figure is partial, what nobody has confirmed, and what is undefined."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from pipelines.evaluation.report.page import render_report
from pipelines.evaluation.report.terminal import formats_line
from pipelines.evaluation.scoring.metrics import registry
from pipelines.evaluation.scoring.metrics.registry import metrics
from pipelines.evaluation.scoring.results import summarise
from pipelines.evaluation.scoring.score import doubt, partial_reasons
from pipelines.judging.tasks import PAIRWISE
from tests.evaluation.asking.test_prompt_formats import judge_formats

GOOD = {"q": "Which?", "a": "first", "b": "second", "label": "A"}


def protocol(**changes: Any) -> Any:
    return SimpleNamespace(**{"expected_n": 10, "whole_n": None, "partial": False, "reason": "", **changes})


@pytest.mark.parametrize(
    ("counts", "benchmark", "sample", "reasons"),
    [
        ({}, protocol(), None, []),
        ({}, protocol(), 10, []),
        ({"found": 9, "asked": 9}, protocol(), None, ["the files hold 9 rows, 10 were expected"]),
        ({"found": 20, "asked": 20}, protocol(partial=True, reason="a part", whole_n=20), None, []),
        ({}, protocol(partial=True, reason="a part", whole_n=20), None, ["a part"]),
        ({"asked": 4}, protocol(), 4, ["sample of 4 of 10 rows"]),
        ({"asked": 3}, protocol(), 4, ["judgments of 3 of 10 rows only"]),
        ({"asked": 4}, protocol(), None, ["judgments of 4 of 10 rows only"]),
        ({"unreadable": 2}, protocol(), None, ["2 rows could not be read"]),
    ],
)
def test_why_a_figure_is_partial(
    counts: dict[str, int], benchmark: Any, sample: int | None, reasons: list[str]
) -> None:
    assert partial_reasons({"found": 10, "asked": 10, "unreadable": 0} | counts, benchmark, sample) == reasons


@pytest.mark.parametrize(
    ("files", "found", "said"),
    [(["x.jsonl"], 10, "ours"), (["x.jsonl"], 20, "ours; the hub's"), ([], 10, "ours; the hub's")],
)
def test_the_form_on_the_hub_is_in_doubt_where_it_was_read(files: list[str], found: int, said: str) -> None:
    hub = SimpleNamespace(to_confirm="the hub's")
    benchmark: Any = SimpleNamespace(hub=hub, files=files, whole_n=20, to_confirm="ours")
    assert doubt(benchmark, found) == said
    benchmark.hub = None
    assert doubt(benchmark, found) == "ours"
    benchmark.to_confirm = ""
    assert doubt(benchmark, found) == ""


def test_pairs_judged_in_one_order_have_no_orders(make_run: Callable, write_benchmark: Callable) -> None:
    records = [{**GOOD, "q": str(number)} for number in range(4)]
    run = make_run({"base": lambda row: "Result: A"}, [write_benchmark(records, orders="given")])
    entry = summarise(run.judgments, run.examples, run.config, 0).to_json()["models"]["base"]["mine"]
    assert (entry["value"], entry["judgments"]) == (1.0, 4)
    assert not {"orders", "position_consistency", "sections", "authors", "balanced", "to_confirm"} & set(entry)


def test_a_metric_that_is_undefined_in_a_format_makes_it_the_worst_one(
    monkeypatch: pytest.MonkeyPatch, make_run: Callable, write_benchmark: Callable
) -> None:
    monkeypatch.setattr(registry, "_METRICS", dict(metrics()))

    @registry.metric("if_any", label="any", tasks=(PAIRWISE,))
    def if_any(table: pd.DataFrame) -> float | None:
        return float(table["points"].mean()) if table["points"].sum() else None

    def answer(row: dict[str, Any]) -> str:
        return f"Result: {row['gold']}" if row["template"] == "pairwise_original" else "I cannot say."

    path = write_benchmark([{**GOOD, "q": str(number)} for number in range(4)], metric="if_any")
    run = make_run({"base": answer}, [path])
    formats = judge_formats(run, {"base": answer}, ["original", "json"])
    found = summarise(run.judgments, run.examples, run.config, 0, formats)
    entry = found.robustness["base"]["mine"]
    assert (entry.best, entry.worst, entry.spread, entry.worst_value) == ("original", "json", None, None)
    assert formats_line("base", entry) == "base in 2 prompt formats: 1.00 (original) to – (json)"
    render_report(found, [], [], None)
