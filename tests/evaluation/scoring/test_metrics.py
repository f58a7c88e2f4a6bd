"""The registry of metrics: one file and one name in a YAML add one; what cannot be scored is refused early."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy.stats import pearsonr
from statsmodels.stats.proportion import proportion_confint

from pipelines.core.errors import UserError
from pipelines.evaluation.benchmarks.registry import BENCHMARKS
from pipelines.evaluation.report.page import render_report
from pipelines.evaluation.report.terminal import terminal_summary
from pipelines.evaluation.scoring import metrics as folder
from pipelines.evaluation.scoring.metrics import registry
from pipelines.evaluation.scoring.metrics.registry import label_of, metrics, require_metrics
from pipelines.evaluation.scoring.results import summarise
from pipelines.judging.tasks import TASKS

BALANCED = """
from pipelines.evaluation.scoring.metrics.registry import metric
from pipelines.judging.tasks import CLASSIFICATION


@metric("balanced_accuracy_of_rows", label="bal", tasks=(CLASSIFICATION,))
def balanced_accuracy_of_rows(table):
    right = table["gold"] == table["verdict_given"]
    return float(right.groupby(table["gold"]).mean().mean())
"""
QUESTION: dict[str, Any] = {
    "task": "classification",
    "allowed": ["Yes", "No"],
    "fields": {"instruction": "record.q", "responses": "[record.a]", "verdict": "record.label"},
}
RECORDS = [{"q": str(number), "a": "x", "label": "No" if number % 4 == 0 else "Yes"} for number in range(24)]


@pytest.fixture
def balanced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A metric in a file of its own, as one dropped into the folder of metrics."""
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "balanced_accuracy_of_rows.py").write_text(BALANCED)
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path / "metrics")])
    monkeypatch.setattr(registry, "_METRICS", dict(metrics()))
    yield "balanced_accuracy_of_rows"
    sys.modules.pop(f"{folder.__name__}.balanced_accuracy_of_rows", None)


def test_a_new_metric_is_one_file_and_one_name(
    balanced: str, make_run: Callable, write_benchmark: Callable, tmp_path: Path
) -> None:
    def yes_but_one(row: dict[str, Any]) -> str:  # right on 18 of 18 and on 1 of 6
        return "Result: No" if row["instruction"] == "0" else "Result: Yes"

    path = write_benchmark(RECORDS, metric=balanced, **QUESTION)
    run = make_run({"base": lambda row: "Result: Yes", "two": yes_but_one}, [path, "heldout_classification"])
    found = summarise(run.judgments, run.examples, run.config, seed=0)
    base, two = (found.models[name]["mine"] for name in ("base", "two"))
    # Always the same verdict: the jackknife sees no spread, the interval is that of half of 24 rows (Wilson).
    assert (base.metric, base.value, base.no_interval) == (balanced, 0.5, "")
    assert (base.ci_low, base.ci_high) == pytest.approx(proportion_confint(12, 24, method="wilson"), abs=1e-6)
    assert base.chance is two.chance is None  # not the judge's own figure
    assert two.value == two.value_parsed_only == pytest.approx((1 + 1 / 6) / 2, abs=1e-6)
    assert two.accuracy == pytest.approx(19 / 24, abs=1e-6)
    assert two.ci_low is not None and two.ci_high is not None and 0.3 < two.ci_low < two.value < two.ci_high < 0.9
    against = found.comparison["two"].benchmarks["mine"]
    assert (against.metric, against.difference) == (balanced, pytest.approx(1 / 12, abs=1e-6))
    assert against.ci_low is not None and against.ci_low < 0 < against.ci_high
    # The mean of a task is of one metric.
    assert found.tasks["two"]["classification"].benchmarks == ["heldout_classification"]
    assert found.comparison["two"].tasks["classification"].n == 60
    assert balanced in render_report(found, [], [], None)
    assert " bal " in terminal_summary(found, run.run, tmp_path / "report.html")


def test_a_metric_that_is_undefined_without_a_row_has_no_interval(
    monkeypatch: pytest.MonkeyPatch, make_run: Callable, write_benchmark: Callable
) -> None:
    monkeypatch.setattr(registry, "_METRICS", dict(metrics()))

    @registry.metric("of_all", label="d", tasks=tuple(TASKS.values()))
    def of_all(table: pd.DataFrame) -> float | None:
        return None if len(table) < 24 else float(table["points"].mean())

    path = write_benchmark(RECORDS, metric="of_all", **QUESTION)
    run = make_run({"base": lambda row: "Result: Yes"}, [path])
    entry = summarise(run.judgments, run.examples, run.config, seed=0).models["base"]["mine"]
    assert (entry.value, entry.ci_low, entry.ci_high) == (0.75, None, None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metric": "pearson"}, "no metric 'pearson' for the task pairwise (known: accuracy)"),
        ({"metric": "bleu"}, "no metric 'bleu' for the task pairwise (known: accuracy)"),
        (
            {"authors": "llm_aggrefact"},
            "no official metrics 'llm_aggrefact' for the task pairwise "
            "(known: auto_j, judge_bench, reward_bench, rm_bench)",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(write_benchmark: Callable, changes: dict[str, str], words: str) -> None:
    benchmark = BENCHMARKS.load(write_benchmark([{}], **changes))
    with pytest.raises(UserError) as failure:
        require_metrics([BENCHMARKS.load("auto_j"), benchmark])
    assert str(failure.value) == f"benchmark 'mine': {words}"


@pytest.mark.parametrize("shape", [{"sections": {"one": ["a"]}}, {"best_of": True}])
def test_sections_and_items_need_a_mean_of_points(
    monkeypatch: pytest.MonkeyPatch, write_benchmark: Callable, shape: dict[str, Any]
) -> None:
    monkeypatch.setattr(registry, "_METRICS", dict(metrics()))
    registry.metric("other", label="o", tasks=tuple(TASKS.values()))(lambda table: 0.0)
    require_metrics([BENCHMARKS.load(write_benchmark([{}], **shape))])
    require_metrics([BENCHMARKS.load(write_benchmark([{}], metric="other"))])
    with pytest.raises(UserError, match=r"do not go with the metric 'other'.*metric: accuracy"):
        require_metrics([BENCHMARKS.load(write_benchmark([{}], metric="other", **shape))])


def test_every_packaged_benchmark_can_be_scored_and_every_task_has_its_metric() -> None:
    require_metrics([BENCHMARKS.load(name) for name in BENCHMARKS.names()])
    for task in TASKS.values():
        assert task.name in metrics()[task.metric].tasks


def test_what_is_known_of_a_metric() -> None:
    assert [label_of(name) for name in ("accuracy", "pearson", "of another version")] == [
        "acc",
        "r",
        "of another version",
    ]


def test_the_values_of_the_packaged_metrics() -> None:
    verdicts = pd.DataFrame({"points": [1.0, 0.5, 0.0, 1.0]})
    assert metrics()["accuracy"].value(verdicts) == 0.625
    assert metrics()["accuracy"].value(verdicts[:0]) is None
    scores = pd.DataFrame({"score": [1.0, 2.0, 4.0], "gold": [1.0, 3.0, 2.0]})
    assert metrics()["pearson"].value(scores) == pytest.approx(pearsonr([1, 2, 4], [1, 3, 2]).statistic)
