"""DPO+NLL on Ray Train: pairs in, a judge in Hugging Face layout out (§2.4 of arXiv 2501.17195)."""

from __future__ import annotations

import time
from typing import Any

from pipelines.core import step, storage
from pipelines.core.errors import UserError
from pipelines.core.progress import clock, say
from pipelines.core.run import Run
from pipelines.core.segment import Rows
from pipelines.core.storage import Place
from pipelines.training import metrics, recipes, settings
from pipelines.training.config import TrainConfig
from pipelines.training.pairs import encode_pairs, pairs_fingerprint, refuse_long
from pipelines.training.reference import reference_log_probs
from pipelines.training.rounds import Material, own_rows
from pipelines.training.worker import CACHE, Job, train_worker

RAY, NAME = "ray", "dpo"  # Ray Train's own storage of the run, where the checkpoints are
REQUEST = "request.json"  # beside them: under which id an elastic training has asked for its workers
ENCODED = "encoded"


def train(config: TrainConfig, pairs: Place, run: Run) -> step.Result:
    """Train the judge, or what is left of it: a killed run resumes from its last checkpoint.

    Args:
        config: the training config.
        pairs: folder of parquet files with row_id, prompt, chosen and rejected.
        run: gets `model/` and `train/`, on storage that every worker can reach; its seed decides the order of pairs.

    Returns:
        The content of done.json: fingerprint, pairs, tokens, steps, seconds, speed and the last step's metrics.

    Raises:
        UserError: a setting does not add up, a pair is too long, the loss is no longer a number, or the run holds
            the training of another config.
    """
    return train_on(config, material(config, pairs, run), run)


def material(config: TrainConfig, pairs: Place, run: Run) -> Material:
    """What the recipe trains on: the pairs, or what `rs_sft` keeps of the judge's own answers, which is made first.

    Raises:
        UserError: as `train`.
    """
    settings.validate(config)
    return Material(pairs) if config.recipe == "dpo_nll" else own_rows(config, pairs, run, train_on)


def train_on(config: TrainConfig, given: Material, run: Run) -> step.Result:
    """`train`, on what the recipe has made of the pairs."""
    from pipelines.engines.models import everywhere

    pairs, model = given.pairs, everywhere(given.model or config.model, "train.model")
    settings.validate(config)
    depends = depends_on(config, pairs, model, run.seed) | ({"made_from": given.made_from} if given.made_from else {})
    if done := step.finished(run.training, depends, resumes=True):
        if storage.exists(run.model):
            clean(run.training)
            say(f"train: already done, {done['pairs']} pairs in {done['steps']} steps")
            return done
        storage.remove(run.training / step.DONE)
    # The folder is not claimed yet: a refused input leaves it free for a better config.
    rows, encoded = with_reference(config, pairs, model, run.training / ENCODED, config.reference or run.reference)
    say(f"train: {encoded['rows']} pairs, {encoded['tokens'] / encoded['sequences']:.0f} tokens a sequence")
    start = time.monotonic()
    job = Job(recipes.settled(config), model, rows.folder, run)
    result = step.once(run.training, depends, lambda _: summary(encoded, follow_fit(job), run), resumes=True)
    clean(run.training)
    speed = f"{result['pairs_per_second']:.2f} pairs/s"
    say(f"train: done in {clock(time.monotonic() - start)}, {speed} -> {run.model}")
    return result


def with_reference(
    config: TrainConfig, pairs: Place, model: str, work: Place, reference: Place
) -> tuple[Rows, step.Result]:
    """Encode the pairs, and compute the reference's log-probabilities where the engine wants them beforehand.

    Args:
        config: the training config.
        pairs: folder of pairs.
        model: the model to start from, by a name that every node knows.
        work: for the encoded pairs.
        reference: folder of the log-probabilities.

    Returns:
        The rows to train on, and how many rows and tokens there are.

    Raises:
        UserError: a pair is too long, or the reference gives it no finite log-probability.
    """
    paired = config.recipe == "dpo_nll"
    encoded, counts = encode_pairs(pairs, work, model, source_of(pairs, model), paired=paired)
    refuse_long(encoded.folder, config.max_length, str(pairs))
    if config.engine == "trl" or not paired:
        return encoded, counts
    return reference_log_probs(config, model, encoded, reference), counts


def depends_on(config: TrainConfig, pairs: Place, model: str, seed: int) -> step.Depends:
    """Every value the trained model depends on, by name.

    Raises:
        UserError: the pairs cannot be read.
    """
    resolved = {"precision": settings.precision(config), "strategy": settings.strategy(config)}
    return {**recipes.identity(config), **resolved, "seed": seed, **source_of(pairs, model)}


def source_of(pairs: Place, model: str) -> step.Depends:
    """The fingerprint of the pairs and the digest of the model.

    Raises:
        UserError: the pairs cannot be read.
    """
    from pipelines.engines.models import identity

    return {"pairs": pairs_fingerprint(pairs), "model": identity(model)}


def follow_fit(job: Job) -> dict[str, Any]:
    """Run the workers and print their progress.

    Raises:
        UserError: the loss is no longer a number, or a worker met a mistake of the user's.
    """
    with metrics.follow(job.run.training_log):
        outcome = fit(job)
    if "diverged" in outcome:
        fix = "lower train.learning_rate, or look at the pairs"
        raise UserError(outcome["diverged"], where=str(job.run.training_log), fix=fix)
    return outcome


def fit(job: Job) -> dict[str, Any]:
    """Run the workers on Ray Train; when one fails, all start again from the last checkpoint.

    Raises:
        UserError: a worker met a mistake of the user's.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import WorkerGroupError

    config, folder = job.config, job.run.training / RAY
    drop_broken(folder)
    path, system = storage.for_ray(folder)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=(config.min_workers, config.workers) if config.min_workers else config.workers,
            use_gpu=config.gpus_per_worker > 0,
            resources_per_worker={"CPU": config.cpus_per_worker}
            | ({"GPU": config.gpus_per_worker} if config.gpus_per_worker else {}),
            **config.placement.options(),
        ),
        run_config=RunConfig(
            name=NAME,
            storage_path=path,
            storage_filesystem=system,
            # The newest is always kept, in addition to the best.
            checkpoint_config=CheckpointConfig(
                num_to_keep=1,
                checkpoint_score_attribute=settings.SCORE if config.holdout else None,
                checkpoint_score_order="max",
            ),
            failure_config=FailureConfig(max_failures=config.max_failures),
        ),
    )
    if config.min_workers:
        instead_of_the_last(folder / REQUEST, trainer)
    try:
        return dict(trainer.fit().return_value)
    except WorkerGroupError as exc:
        for failure in exc.worker_failures.values():
            cause: BaseException | None = failure
            while cause is not None:
                if isinstance(cause, UserError):
                    raise cause from None
                cause = getattr(cause, "cause", None) or cause.__cause__
        raise


def instead_of_the_last(note: Place, trainer: Any) -> None:
    """Note that this elastic training asks for its workers, and take back what a killed one had asked for."""
    from pipelines.core.ray_internals import give_back_request, run_id_of

    if storage.exists(note):
        give_back_request(storage.read_json(note)["run_id"])
    storage.write_json(note, {"run_id": run_id_of(trainer)})


def drop_broken(folder: Place) -> None:
    """Remove Ray Train's files of a killed run if it cannot resume from them: its record was cut off half-way."""
    from pipelines.core.ray_internals import checkpoint_record_name

    record = folder / NAME / checkpoint_record_name()
    if not storage.exists(record):
        return
    try:
        kept = [result["checkpoint_dir_name"] for result in storage.read_json(record)["checkpoint_results"]]
        whole = all(storage.exists(folder / NAME / name) for name in kept)
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        say("train: the record of checkpoints was cut off by a kill, so training starts again")
        storage.remove(folder)


def summary(encoded: step.Result, outcome: dict[str, Any], run: Run) -> step.Result:
    """The content of done.json; speeds are of the last attempt, `elapsed` in the metrics is of all."""
    seconds, steps = max(outcome["seconds"], 1e-9), metrics.read(run.training_log)
    return {
        "pairs": encoded["rows"],
        "tokens": encoded["tokens"],
        "steps": outcome["steps"],
        "resumed_from": outcome["resumed_from"],
        "seconds": outcome["seconds"],
        "pairs_per_second": round(outcome["pairs"] / seconds, 4),
        "tokens_per_second": round(outcome["tokens"] / seconds, 2),
        "last_step": steps[-1] if steps else None,
        "best": outcome["best"],
        **({"float8_error": outcome["float8_error"]} if outcome.get("float8_error") else {}),
    }


def clean(work: Place) -> None:
    """Remove what a finished run no longer needs."""
    for name in (RAY, ENCODED, CACHE):
        storage.remove(work / name)
