"""Means of tasks: over whole benchmarks, each row once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pipelines.evaluation.scoring.results import summarise

GOOD = {"q": "Which?", "a": "first", "b": "second", "label": "A"}


def test_rows_of_another_benchmark_are_not_counted_twice(
    make_run: Callable, two_models: dict, write_benchmark: Callable
) -> None:
    rows = [{**GOOD, "q": str(number)} for number in range(5)]
    whole, part = (
        write_benchmark(rows, name=name, **more) for name, more in (("whole", {}), ("part", {"within": "whole"}))
    )
    run = make_run({"base": two_models["base"]}, [whole, part])
    found = summarise(run.judgments, run.examples, run.config, 0)
    assert found.tasks["base"]["pairwise"].benchmarks == ["whole"] and found.tasks["base"]["pairwise"].n == 5
    run = make_run({"base": two_models["base"]}, [part])
    found = summarise(run.judgments, run.examples, run.config, 0)
    assert found.tasks["base"]["pairwise"].benchmarks == ["part"]


def test_tasks_are_means_over_benchmarks(make_run: Callable, two_models: dict, write_benchmark: Callable) -> None:
    other = write_benchmark([{**GOOD, "q": str(number)} for number in range(5)])
    run = make_run({"base": two_models["base"]}, ["heldout_pairwise", other])
    found = summarise(run.judgments, run.examples, run.config, 0).to_json()
    entries = list(found["models"]["base"].values())
    task = found["tasks"]["base"]["pairwise"]
    assert task["value"] == pytest.approx(np.mean([entry["value"] for entry in entries]), abs=2e-6)
    assert (task["n"], task["benchmarks"], task["pearson"]) == (65, ["heldout_pairwise", "mine"], None)
    pooled = sum(entry["parse_rate"] * entry["judgments"] for entry in entries) / 130
    assert task["parse_rate"] == pytest.approx(pooled, abs=2e-6)


def test_a_task_with_a_benchmark_that_has_no_value_has_none(
    make_run: Callable, two_models: dict, write_benchmark: Callable
) -> None:
    constant = write_benchmark(
        [{"q": str(number), "a": "x", "label": 3} for number in range(4)],
        task="absolute",
        metric="pearson",
        allowed=["1", "2", "3", "4", "5"],
        fields={"instruction": "record.q", "responses": "[record.a]", "verdict": "record.label"},
    )
    run = make_run(two_models, ["heldout_absolute", constant])
    found = summarise(run.judgments, run.examples, run.config, 0).to_json()
    entry = found["models"]["trained"]["mine"]
    assert (entry["value"], entry["ci_low"], entry["ci_high"]) == (None, None, None)
    assert "gold scores do not vary" in entry["notes"][0]
    task = found["tasks"]["trained"]["absolute"]
    assert (task["value"], task["ci_low"], task["ci_high"]) == (None, None, None)
    assert found["comparison"]["trained"]["tasks"]["absolute"]["difference"] is None
    assert "cannot be compared" in found["comparison"]["trained"]["benchmarks"]["mine"]["sentence"]
