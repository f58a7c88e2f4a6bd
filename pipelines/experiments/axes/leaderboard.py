"""Lines of the leaderboard that other jobs of the run have made: the sweep's trainings and the recipes."""

from __future__ import annotations

from typing import Any

from pipelines.core import step, storage
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.experiments.records.record import read_csv

Line = dict[str, Any]


def others(run: Run) -> list[Line]:
    """The lines, the best of each job first; none of a job that has not been run."""
    return [*of_sweep(run), *of_recipes(run)]


def of_sweep(run: Run) -> list[Line]:
    """Trainings of `openselene sweep`, by the accuracy on its held-out pairs."""
    found = []
    for line in lines_of(run.sweep / "table.csv"):
        done = step.result_of(run.sweep / line["trial"] / "train") or {}
        found.append(
            {
                "training": line["trial"],
                "by": "sweep",
                "figure": "held-out accuracy",
                "value": float(line["heldout_accuracy"]),
                "low": float(line["low"]),
                "high": float(line["high"]),
                "seconds": float(line["seconds"] or 0),
                "tokens": done.get("tokens"),
                **{name: float(line[name]) for name in ("learning_rate", "alpha", "weight_decay")},
            }
        )
    return found


def of_recipes(run: Run) -> list[Line]:
    """Recipes of `openselene recipes`, by the mean over the tasks of its benchmarks; the base model with them."""
    found = []
    for line in lines_of(run.recipes / "table.csv"):
        tasks = [name for name in ("pairwise", "absolute", "classification") if line.get(name)]
        if not tasks:
            continue
        spent = ("training_seconds", "sampling_seconds", "earlier_rounds_seconds")
        found.append(
            {
                "training": line["model"],
                "by": "recipes",
                "figure": "mean over benchmark tasks",
                "value": sum(float(line[name]) for name in tasks) / len(tasks),
                **{name: float(line[name]) for name in tasks},
                "seconds": sum(float(line.get(name) or 0) for name in spent),
                "tokens": int(line.get("tokens") or 0),
                "recipe": line["model"],
            }
        )
    return sorted(found, key=lambda line: -line["value"])


def lines_of(place: Place) -> list[dict[str, str]]:
    """A table's lines by column; none where there is no file."""
    if not storage.exists(place):
        return []
    header, *lines = read_csv(place)
    return [dict(zip(header, line, strict=True)) for line in lines]
