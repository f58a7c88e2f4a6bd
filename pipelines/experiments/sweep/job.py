"""The paper's grid (§2.4) as Ray Tune trials that share the reference's log-probabilities."""

from __future__ import annotations

import csv
import io
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.run import Run
from pipelines.core.storage import Place
from pipelines.experiments.sweep import records
from pipelines.experiments.sweep.config import SweepConfig
from pipelines.training import metrics, settings
from pipelines.training.config import TrainConfig
from pipelines.training.settings import HELDOUT_ACCURACY

VARIED = ("learning_rate", "alpha", "weight_decay")
POLL_S = 1.0

Point = dict[str, float]
Trial = dict[str, Any]


def validate(train: TrainConfig, sweep: SweepConfig) -> None:
    """Refuse a sweep that could not choose.

    Raises:
        UserError: nothing is held out, a value of the grid comes twice, the recipe is not the grid's, or the training's
            settings do not fit together.
    """
    if train.recipe != "dpo_nll":
        fix = "openselene recipes compares recipes"
        raise UserError(f"the grid varies alpha, which {train.recipe} does not have", where="train.recipe", fix=fix)
    if not train.holdout:
        raise UserError("nothing is held out to choose by", where="train.holdout", fix="set it to 0.05, say")
    for name in VARIED:
        values = getattr(sweep, name)
        if len(set(values)) < len(values):
            raise UserError(f"a value comes twice: {values}", where=f"sweep.{name}")
    settings.validate(train)


def grid(sweep: SweepConfig) -> list[Point]:
    """Every combination, in order."""
    return [
        dict(zip(VARIED, values, strict=True))
        for values in itertools.product(*(getattr(sweep, name) for name in VARIED))
    ]


def name_of(point: Point) -> str:
    """The folder of a trial."""
    return "-".join(f"{short}{point[name]:g}" for short, name in zip(("lr", "alpha", "wd"), VARIED, strict=True))


def run_of(run: Run, point: Point) -> Run:
    """The trial as a run of its own, within the sweep's folder."""
    return replace(run, out=run.sweep / name_of(point))


def describe(train: TrainConfig, sweep: SweepConfig) -> list[str]:
    """What the job would do."""
    validate(train, sweep)
    return [f"sweep of {len(grid(sweep))} trainings, {sweep.concurrent} at once"] + [
        f"  {name_of(point)}" for point in grid(sweep)
    ]


def run(run: Run, train: TrainConfig, sweep: SweepConfig) -> Place:
    """Train every point of the grid that is not done, and write `table.csv`, `sweep.png` and `best.json`.

    Returns:
        OUT/sweep.
    """
    from ray import tune

    validate(train, sweep)
    step.require_whole(run.curated, fix="run ray_jobs/curate.py again: it resumes")
    train = train.model_copy(update={"reference": train.reference or run.reference})
    share_reference(run, train)
    tuning = run.sweep / "tune"
    path, system = storage.for_ray(tuning)
    storage.remove(tuning)  # each trial knows by itself whether it is done
    scheduler = None
    if sweep.asha:
        from ray.tune.schedulers import ASHAScheduler

        scheduler = ASHAScheduler(time_attr="step", max_t=10**9, grace_period=train.checkpoint_steps)
    tuner = tune.Tuner(
        # The workers of a trial ask for CPUs of their own.
        tune.with_resources(tune.with_parameters(trial, run=run, train=train), {"CPU": 0.1}),
        param_space={name: tune.grid_search(getattr(sweep, name)) for name in VARIED},
        tune_config=tune.TuneConfig(
            metric=HELDOUT_ACCURACY,
            mode="max",
            max_concurrent_trials=sweep.concurrent,
            scheduler=scheduler,
            reuse_actors=False,
        ),
        run_config=tune.RunConfig(name="grid", storage_path=path, storage_filesystem=system, verbose=0),
    )
    results = tuner.fit()
    for failed in results.errors:
        raise failed
    storage.remove(tuning)
    write_table(run, train, sweep, [outcome(run_of(run, point), point) for point in grid(sweep)])
    return run.sweep


def share_reference(run: Run, train: TrainConfig) -> None:
    """Compute the reference's log-probabilities, unless they exist: no two trials must do it at once."""
    from pipelines.engines.models import everywhere
    from pipelines.training.train import with_reference

    work = run.sweep / "shared"
    with_reference(train, run.pairs, everywhere(train.model, "train.model"), work, train.reference or run.reference)
    storage.remove(work)


def trial(point: Point, run: Run, train: TrainConfig) -> None:
    """One training; its held-out accuracies go to Ray Tune as they come."""
    from ray import tune

    from pipelines.training import train as training_job

    config = TrainConfig.model_validate({**train.model_dump(), **point})
    own = run_of(run, point)
    reported = 0
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(training_job.train, config, run.pairs, own)
        while True:
            ended = training.done()
            seen = judged(own)
            for line in seen[reported:]:
                tune.report(line)
            reported = max(reported, len(seen))
            if ended:
                training.result()
                return
            time.sleep(POLL_S)


def judged(run: Run) -> list[metrics.Step]:
    """What a trial's checkpoints made of the held-out pairs."""
    return metrics.read(run.training / metrics.HELDOUT)


def outcome(run: Run, point: Point) -> Trial:
    """A row of the table: the best checkpoint of a trial, and what it took; a stopped trial's best so far."""
    from statsmodels.stats.proportion import proportion_confint

    best = max(judged(run), key=lambda line: line[HELDOUT_ACCURACY])
    done = step.result_of(run.training)
    n = round(best["heldout_judged"])
    low, high = proportion_confint(round(best[HELDOUT_ACCURACY] * n), n, method="wilson")
    return {
        "trial": name_of(point),
        **point,
        HELDOUT_ACCURACY: best[HELDOUT_ACCURACY],
        "low": float(low),
        "high": float(high),
        "judged": n,
        "step": best["step"],
        "heldout_loss_dpo": best["heldout_loss_dpo"],
        "heldout_loss_nll": best["heldout_loss_nll"],
        "whole": done is not None,
        "seconds": done["seconds"] if done else None,
    }


def write_table(run: Run, train: TrainConfig, sweep: SweepConfig, table: list[Trial]) -> None:
    """Write the products and say which trial is best, and how sure that is; the NLL decides between equals."""
    from pipelines.experiments.sweep.figure import draw_png

    table = sorted(table, key=lambda row: (-row[HELDOUT_ACCURACY], row["heldout_loss_nll"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    storage.write_text(run.sweep / "table.csv", text.getvalue())
    storage.write_bytes(run.sweep / "sweep.png", draw_png(table))
    # Of a training that was stopped there is no model.
    best = next((row for row in table if row["whole"]), table[0])
    model = replace(run, out=run.sweep / best["trial"]).model
    near = [row["trial"] for row in table if row is not best and row[HELDOUT_ACCURACY] >= best["low"]]
    storage.write_json(run.sweep / "best.json", {**best, "model": str(model), "within_its_interval": near})
    records.write(run, train, sweep, table, best["trial"], near)
    say(
        f"sweep: best is {best['trial']}, {best[HELDOUT_ACCURACY]:.3f} "
        f"({best['low']:.3f}-{best['high']:.3f}, n = {best['judged']}) of the held-out judgments; "
        f"{len(near)} of {len(table) - 1} others lie in its interval -> {model}"
    )
