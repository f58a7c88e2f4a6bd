"""The sweep: what it refuses, its table and picture, and a real grid of tiny trainings in the integration tests."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.config import Config
from pipelines.core import step
from pipelines.core.errors import UserError
from pipelines.core.run import Run
from pipelines.experiments.records import record
from pipelines.experiments.sweep import job as sweep
from ray_jobs.sweep import describe


def config(tmp_path: Path, **changes: Any) -> Config:
    raw = {
        "out_dir": tmp_path,
        "curation": {"sources": []},
        "evaluation": {"benchmarks": []},
        "train": {"holdout": 0.2},
        **changes,
    }
    return Config.model_validate(raw)


def trained(run: Run, point: dict[str, float], accuracies: list[float], whole: bool = True) -> None:
    work = sweep.run_of(run, point).training
    work.mkdir(parents=True)
    lines = [
        {
            "step": 2 * i + 2,
            "heldout_accuracy": a,
            "heldout_judged": 50,
            "heldout_loss_dpo": 0.6,
            "heldout_loss_nll": 1.0,
        }
        for i, a in enumerate(accuracies)
    ]
    (work / "heldout.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if whole:
        step.once(work, {}, lambda _: {"seconds": 7.5})


def test_the_default_is_the_papers_grid(tmp_path: Path) -> None:
    points = sweep.grid(config(tmp_path).sweep)
    assert len(points) == 12 and {p["learning_rate"] for p in points} == {5.5e-8, 1e-7, 7e-7}
    assert {(p["alpha"], p["weight_decay"]) for p in points} == {(0.5, 0.01), (0.5, 0.1), (1.0, 0.01), (1.0, 0.1)}
    assert len({sweep.name_of(p) for p in points}) == 12


def test_a_sweep_that_could_not_choose_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.holdout"):
        describe(config(tmp_path, train={}))
    with pytest.raises(UserError, match=r"sweep\.alpha: a value comes twice"):
        describe(config(tmp_path, sweep={"alpha": [1, 1.0]}))
    with pytest.raises(UserError, match=r"train\.attention"):
        describe(config(tmp_path, train={"holdout": 0.2, "attention": "sdpa"}))
    with pytest.raises(UserError, match=r"train\.recipe: the grid varies alpha, which rs_sft does not have"):
        describe(config(tmp_path, train={"holdout": 0.2, "recipe": "rs_sft"}))
    assert len(describe(config(tmp_path))) == 1 + 12


def test_the_table_names_the_best_and_those_that_may_be_as_good(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    made = config(tmp_path, sweep={"learning_rate": [1e-7, 7e-7], "alpha": [1.0], "weight_decay": [0.01, 0.1]})
    run = made.run
    folder = run.sweep
    values = ([0.5, 0.9, 0.7], [0.86], [0.2], [0.95])
    for point, accuracies in zip(sweep.grid(made.sweep), values, strict=True):
        trained(run, point, accuracies, whole=accuracies != [0.95])
    table = [sweep.outcome(sweep.run_of(run, point), point) for point in sweep.grid(made.sweep)]
    sweep.write_table(run, made.train, made.sweep, table)
    best = json.loads((folder / "best.json").read_text())
    assert (best["trial"], best["step"], best["heldout_accuracy"]) == ("lr1e-07-alpha1-wd0.01", 4, 0.9)
    assert best["within_its_interval"] == ["lr7e-07-alpha1-wd0.1", "lr1e-07-alpha1-wd0.1"]
    assert best["low"] == pytest.approx(0.786, abs=1e-3) and best["high"] == pytest.approx(0.957, abs=1e-3)
    rows = list(csv.DictReader((folder / "table.csv").open()))
    assert [row["heldout_accuracy"] for row in rows] == ["0.95", "0.9", "0.86", "0.2"]
    assert rows[0]["whole"] == "False" and rows[0]["seconds"] == "" and rows[1]["seconds"] == "7.5"
    assert best["model"] == str(folder / "lr1e-07-alpha1-wd0.01" / "model")
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert "best is lr1e-07-alpha1-wd0.01, 0.900 (0.786-0.957, n = 50)" in capsys.readouterr().err
    about = record.read(run.experiments / "sweep")
    assert about.decisions[0].verdict == best["trial"] and "2 of 3 others" in about.decisions[0].why
    assert [one.value for one in about.figures] == [0.95, 0.9, 0.86, 0.2] and about.figures[0].note == "stopped early"
    assert (run.experiments / "index.html").exists() and about.cost.trials == 4
