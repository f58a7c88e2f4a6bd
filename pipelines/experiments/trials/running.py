"""Run trials as Ray tasks on a few processes that keep the judge; what is done already is only read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from typing import Any

from pipelines.core import step
from pipelines.core.errors import UserError
from pipelines.core.progress import INTERVAL, clock, say
from pipelines.core.storage import Place
from pipelines.experiments.trials.diverged import refuse_diverged
from pipelines.experiments.trials.trial import DIVERGED, Trial
from pipelines.experiments.trials.worker import Ground, Worker

RETRIES = 2  # after processes that died: nothing but the trials that they had in hand is lost


def run_trials(
    ground: Ground, trials: Sequence[Trial], concurrent: int, *, keep_diverged: bool = False
) -> dict[Trial, Place]:
    """Do the trials that are not done.

    Args:
        ground: what they share.
        trials: in any order; one that comes twice is done once.
        concurrent: processes at once.
        keep_diverged: whether a trial that diverges is a result like any other, and does not end the job.

    Returns:
        Trial -> the folder of its result.

    Raises:
        UserError: a trial has diverged, or cannot be done.
    """
    wanted = list(dict.fromkeys(trials))
    if not ground.stand_in:  # which takes its scale from the whole pool
        taken = {row for one in wanted for row in one.rows}
        ground = replace(ground, pairs=[row for row in ground.pairs if row["row_id"] in taken])
    if not keep_diverged:
        refuse_diverged(ground, wanted)  # before others are done in vain
    for attempt in range(RETRIES + 1):
        left = [one for one in wanted if step.finished(ground.place(one), ground.depends(one)) is None]
        if not left:
            break
        say(f"trials: {len(left)} of {len(wanted)} to do")
        died = _died(ground, left, concurrent, keep_diverged, last=attempt == RETRIES)
        if not keep_diverged:
            refuse_diverged(ground, left)
        if not died:
            break
    return {one: ground.place(one) for one in wanted}


def _died(ground: Ground, left: Sequence[Trial], concurrent: int, keep_diverged: bool, last: bool) -> bool:
    """Run the trials; whether a process died of it, and others are to go on.

    Raises:
        RayActorError: one died, and it was the `last` attempt.
    """
    if ground.stand_in:  # milliseconds each: no process is worth its start
        worker = Worker(ground)
        for one in left:
            worker.run(one)
        return False
    from ray.exceptions import RayActorError

    try:
        _run(ground, left, concurrent, keep_diverged)
    except RayActorError as exc:
        if last:
            raise
        say(f"trials: a process died ({' '.join(str(exc).split())[:120]}); going on with what is left")
        return True
    return False


def _run(ground: Ground, left: Sequence[Trial], concurrent: int, keep_diverged: bool) -> None:
    import ray
    from ray.util import ActorPool

    config = ground.config
    actor = ray.remote(Worker).options(
        num_cpus=config.cpus_per_worker, num_gpus=config.gpus_per_worker, **config.placement.options()
    )
    shared = ray.put(ground)
    workers = [actor.remote(shared) for _ in range(min(concurrent, len(left)))]
    try:
        with as_itself():
            pool: Any = ActorPool(workers)
            blocks = [number for number in range(ground.blocks) if not step.result_of(ground.block(number))]
            told("first pass", blocks, pool.map_unordered(lambda one, number: one.first_pass.remote(number), blocks))
            ray.get([worker.begin.remote() for worker in workers])
            results = pool.map_unordered(lambda one, trial: one.run.remote(trial), left)
            told("trials", left, results if keep_diverged else takewhile(judged, results))
    finally:
        for worker in workers:
            ray.kill(worker)


@contextmanager
def as_itself() -> Iterator[None]:
    """Raise a user's mistake in a trial's process as itself, in one line and without Ray's wrapping."""
    from ray.exceptions import RayTaskError

    try:
        yield
    except RayTaskError as exc:
        if isinstance(exc.cause, UserError):
            raise exc.cause from None
        raise


def judged(result: step.Result) -> bool:
    """Whether a trial has verdicts; the first that has none ends the others."""
    return not result.get(DIVERGED)


def told(label: str, items: Sequence[Any], results: Iterator[Any]) -> None:
    """Wait for all results, and say from time to time how far it is."""
    start = last = time.monotonic()
    for done, _ in enumerate(results, start=1):
        if (now := time.monotonic()) - last > INTERVAL or done == len(items):
            left = (now - start) / done * (len(items) - done)
            say(f"  {label}: {done}/{len(items)} after {clock(now - start)}, ETA {clock(left)}")
            last = now
