"""The paper's grid (§2.4) as Ray Tune trials that share the reference's log-probabilities."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipelines.core.config import Config, TrainConfig
from pipelines.core.errors import UserError
from pipelines.core.files import read_json, write_json
from pipelines.core.progress import say
from pipelines.core.segment import DONE
from pipelines.training.metrics import HELDOUT
from pipelines.training.settings import HELDOUT_ACCURACY

VARIED = ("learning_rate", "alpha", "weight_decay")
POLL_S = 1.0

Trial = dict[str, Any]


def check(config: Config) -> None:
    """Refuse a sweep that could not choose.

    Raises:
        UserError: nothing is held out, or a value of the grid comes twice.
    """
    if not config.train.holdout:
        raise UserError("nothing is held out to choose by", where="train.holdout", fix="set it to 0.05, say")
    for name in VARIED:
        values = getattr(config.sweep, name)
        if len(set(values)) < len(values):
            raise UserError(f"a value comes twice: {values}", where=f"sweep.{name}")


def grid(config: Config) -> list[dict[str, float]]:
    """Every combination, in order."""
    return [
        dict(zip(VARIED, values, strict=True))
        for values in itertools.product(*(getattr(config.sweep, name) for name in VARIED))
    ]


def name_of(point: dict[str, float]) -> str:
    """The folder of a trial."""
    return "-".join(f"{short}{point[name]:g}" for short, name in zip(("lr", "alpha", "wd"), VARIED, strict=True))


def describe(config: Config) -> list[str]:
    """What the job would do."""
    check(config)
    return [f"sweep of {len(grid(config))} trainings, {config.sweep.concurrent} at once"] + [
        f"  {name_of(point)}" for point in grid(config)
    ]


def run(config: Config) -> Path:
    """Train every point of the grid that is not done, and write `table.csv`, `sweep.png` and `best.json`.

    Returns:
        OUT/sweep.
    """
    from ray import tune

    folder, pairs = config.out_dir / "sweep", config.out_dir / "curated" / "data"
    share_reference(config, pairs)
    tuning = folder / "tune"
    shutil.rmtree(tuning, ignore_errors=True)  # what is done is known by each trial's own done.json
    scheduler = None
    if config.sweep.asha:
        from ray.tune.schedulers import ASHAScheduler

        scheduler = ASHAScheduler(time_attr="step", max_t=10**9, grace_period=config.train.checkpoint_steps)
    tuner = tune.Tuner(
        tune.with_resources(trial, {"CPU": 0.1}),  # its workers ask for their own
        param_space={
            **{name: tune.grid_search(getattr(config.sweep, name)) for name in VARIED},
            "train": config.train.model_dump(mode="json"),
            "pairs": str(pairs),
            "folder": str(folder),
            "seed": config.seed,
        },
        tune_config=tune.TuneConfig(
            metric=HELDOUT_ACCURACY,
            mode="max",
            max_concurrent_trials=config.sweep.concurrent,
            scheduler=scheduler,
            reuse_actors=False,
        ),
        run_config=tune.RunConfig(name="grid", storage_path=str(tuning), verbose=0),
    )
    results = tuner.fit()
    for failed in results.errors:
        raise failed
    shutil.rmtree(tuning, ignore_errors=True)
    write_table(folder, [outcome(folder, point) for point in grid(config)])
    return folder


def share_reference(config: Config, pairs: Path) -> None:
    """Compute the reference's log-probabilities, unless they are there: no two trials must do it at once."""
    from pipelines.engines.models import require
    from pipelines.training.train import depends_on, with_reference

    work, model = config.out_dir / "sweep" / "shared", require(config.train.model, "train.model")
    with_reference(config.train, pairs, work, model, depends_on(config.train, pairs, model, config.seed))
    shutil.rmtree(work, ignore_errors=True)


def trial(given: dict[str, Any]) -> None:
    """One training; its held-out accuracies go to Ray Tune as they come."""
    from ray import tune

    from pipelines.training.train import train

    point = {name: given[name] for name in VARIED}
    config = TrainConfig.model_validate({**given["train"], **point})
    out = Path(given["folder"]) / name_of(point)
    reported = 0
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train, config, Path(given["pairs"]), out, given["seed"])
        while True:
            ended = training.done()
            seen = judged(out)
            for line in seen[reported:]:
                tune.report(line)
            reported = max(reported, len(seen))
            if ended:
                training.result()
                return
            time.sleep(POLL_S)


def judged(out: Path) -> list[dict[str, float]]:
    """The whole lines of a trial's held-out log."""
    path = out / "train" / HELDOUT
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def outcome(folder: Path, point: dict[str, float]) -> Trial:
    """A row of the table: the best checkpoint of a trial, and what it took; a stopped trial's best so far."""
    from statsmodels.stats.proportion import proportion_confint

    out = folder / name_of(point)
    best = max(judged(out), key=lambda line: line[HELDOUT_ACCURACY])
    done = out / "train" / DONE
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
        "whole": done.exists(),
        "seconds": read_json(done)["seconds"] if done.exists() else None,
    }


def write_table(folder: Path, table: list[Trial]) -> None:
    """Write the products and say which trial is best, and how sure that is; the NLL decides between equals."""
    from pipelines.experiments.sweep_figure import write_figure

    table = sorted(table, key=lambda row: (-row[HELDOUT_ACCURACY], row["heldout_loss_nll"]))
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    write_figure(table, folder / "sweep.png")
    # Of a training that was stopped there is no model.
    best = next((row for row in table if row["whole"]), table[0])
    model = folder / best["trial"] / "model"
    near = [row["trial"] for row in table if row is not best and row[HELDOUT_ACCURACY] >= best["low"]]
    write_json(folder / "best.json", {**best, "model": str(model), "within_its_interval": near})
    say(
        f"sweep: best is {best['trial']}, {best[HELDOUT_ACCURACY]:.3f} "
        f"({best['low']:.3f}-{best['high']:.3f}, n = {best['judged']}) of the held-out judgments; "
        f"{len(near)} of {len(table) - 1} others lie in its interval -> {model}"
    )
