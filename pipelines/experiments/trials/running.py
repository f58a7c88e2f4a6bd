"""Run trials as Ray tasks on a few processes that keep the judge; what is done already is only read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipelines.core import step
from pipelines.core.progress import INTERVAL, clock, say
from pipelines.core.storage import Place
from pipelines.experiments.trials.trial import Trial
from pipelines.experiments.trials.worker import Ground, Worker

RETRIES = 2  # after processes that died: nothing but the trials that they had in hand is lost


def run_trials(ground: Ground, trials: Sequence[Trial], concurrent: int) -> dict[Trial, Place]:
    """Do the trials that are not done.

    Args:
        ground: what they share.
        trials: in any order; one that comes twice is done once.
        concurrent: processes at once.

    Returns:
        Trial -> the folder of its result.
    """
    wanted = list(dict.fromkeys(trials))
    if not ground.stand_in:  # which takes its scale from the whole pool
        taken = {row for one in wanted for row in one.rows}
        ground = replace(ground, pairs=[row for row in ground.pairs if row["row_id"] in taken])
    for attempt in range(RETRIES + 1):
        left = [one for one in wanted if step.finished(ground.place(one), ground.depends(one)) is None]
        if not left:
            break
        say(f"trials: {len(left)} of {len(wanted)} to do")
        if not _died(ground, left, concurrent, last=attempt == RETRIES):
            break
    return {one: ground.place(one) for one in wanted}


def _died(ground: Ground, left: Sequence[Trial], concurrent: int, last: bool) -> bool:
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
        _run(ground, left, concurrent)
    except RayActorError as exc:
        if last:
            raise
        say(f"trials: a process died ({' '.join(str(exc).split())[:120]}); going on with what is left")
        return True
    return False


def _run(ground: Ground, left: Sequence[Trial], concurrent: int) -> None:
    import ray
    from ray.util import ActorPool

    config = ground.config
    actor = ray.remote(Worker).options(
        num_cpus=config.cpus_per_worker, num_gpus=config.gpus_per_worker, **config.placement.options()
    )
    shared = ray.put(ground)
    workers = [actor.remote(shared) for _ in range(min(concurrent, len(left)))]
    try:
        pool: Any = ActorPool(workers)
        blocks = [number for number in range(ground.blocks) if not step.result_of(ground.block(number))]
        told("first pass", blocks, pool.map_unordered(lambda one, number: one.first_pass.remote(number), blocks))
        ray.get([worker.begin.remote() for worker in workers])
        told("trials", left, pool.map_unordered(lambda one, trial: one.run.remote(trial), left))
    finally:
        for worker in workers:
            ray.kill(worker)


def told(label: str, items: Sequence[Any], results: Iterator[Any]) -> None:
    """Wait for all results, and say from time to time how far it is."""
    start = last = time.monotonic()
    for done, _ in enumerate(results, start=1):
        if (now := time.monotonic()) - last > INTERVAL or done == len(items):
            left = (now - start) / done * (len(items) - done)
            say(f"  {label}: {done}/{len(items)} after {clock(now - start)}, ETA {clock(left)}")
            last = now
