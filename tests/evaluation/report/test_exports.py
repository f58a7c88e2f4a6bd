"""CSV and model card: every figure with its n and interval, a sample named as one."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import yaml

from pipelines.evaluation.report import page as report
from pipelines.evaluation.report.exports import model_index, write_exports
from pipelines.evaluation.scoring.results import summarise
from tests.evaluation.asking.test_prompt_formats import ORIGINAL, judge_formats


def test_the_csv_and_the_card_hold_what_the_results_hold(make_run: Callable, two_models: dict, tmp_path: Path) -> None:
    run = make_run(two_models, sample=20)
    results = summarise(run.judgments, run.examples, run.config, seed=0)
    write_exports(results, tmp_path / "benchmark")
    rows = list(csv.DictReader((tmp_path / "benchmark" / "results.csv").open()))
    assert len(rows) == 6
    assert not (tmp_path / "benchmark" / "formats.csv").exists()
    for row in rows:
        entry = results.models[row["model"]][row["benchmark"]]
        assert (float(row["value"]), int(row["n"]), row["partial"]) == (entry.value, 20, "True")
        assert (row["task"], row["metric"]) == (entry.task, entry.metric)
        assert [float(row[key]) if row[key] else None for key in ("ci_low", "ci_high")] == [entry.ci_low, entry.ci_high]
    card = yaml.safe_load((tmp_path / "benchmark" / "cards" / "trained.yaml").read_text())
    (index,) = card["model-index"]
    first = index["results"][0]
    assert index["name"] == "trained" and len(index["results"]) == 3
    assert "sample of 20 of 60 rows" in first["dataset"]["name"]
    assert "n = 20" in first["metrics"][0]["name"] and "95% interval" in first["metrics"][0]["name"]


def test_figures_without_critiques_say_so(make_run: Callable, two_models: dict) -> None:
    run = make_run(two_models, ["heldout_pairwise"], format="one_token")
    results = summarise(run.judgments, run.examples, run.config, seed=0)
    (entry,) = model_index(results, "base")["model-index"][0]["results"]
    assert entry["metrics"][0]["name"].endswith(", one_token")
    page = report.render_report(results, [], [], None)
    asked = results.settings.protocols["asked for"]
    assert page.count(asked) == 2 and "the likeliest of the allowed verdicts" in asked


def test_formats_have_a_csv_of_their_own(make_run: Callable, two_models: dict) -> None:
    run = make_run(two_models, ["heldout_pairwise"], sample=10, templates=ORIGINAL)
    formats = judge_formats(run, two_models, ["original", "json"])
    results = summarise(run.judgments, run.examples, run.config, 0, formats)
    write_exports(results, run.out / "exports")
    rows = list(csv.DictReader((run.out / "exports" / "formats.csv").open()))
    assert [(row["model"], row["format"]) for row in rows] == [
        (model, name) for model in ("base", "trained") for name in ("original", "json")
    ]
    for row in rows:
        found = results.robustness[row["model"]]["heldout_pairwise"].formats[row["format"]]
        assert {key: str(getattr(found, key)) for key in ("value", "ci_low", "n", "template")}.items() <= row.items()
