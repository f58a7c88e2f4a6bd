"""What Ray has no public name for: the only module that uses its private ones. Read again with every new Ray (2.60)."""

from __future__ import annotations

import os

from pipelines.core.progress import say

ANSWERS = 10  # seconds; Ray's own callers of its coordinator wait five
SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # which Ray sets for a submitted job


def left_address() -> str | None:
    """The address that the last local cluster wrote down; killed, it never takes it back.

    Private because Ray only reads it itself, and then waits, without a message, for a cluster that is gone.
    """
    from ray._private.utils import read_ray_address

    address: str | None = read_ray_address()
    return address


def submitted() -> bool:
    """Whether this is a job of `ray job submit`, which runs in a copy of the code that is removed later.

    Private because Ray only tells its own client of it.
    """
    return SUBMITTED in os.environ  # without importing Ray, which takes seconds


def checkpoint_record_name() -> str:
    """Name of the file in which Ray Train lists the checkpoints of a run.

    Private because Ray only reads it itself, and fails for good where a kill has cut it off or taken a checkpoint.
    """
    from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

    return str(CHECKPOINT_MANAGER_SNAPSHOT_FILENAME)


def give_back_request(run_id: str) -> None:
    """Take back what a training of Ray Train has asked of the cluster, if its driver was killed before it did.

    Private because Ray has no name for it: an elastic training in its place would else wait for the three minutes after
    which Ray forgets it, and for ever where its driver is killed more often than that. Where the coordinator does not
    answer, as its node may be gone, it is left to that.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError

    name = "AutoscalingCoordinator"
    try:
        coordinator = ray.get_actor(name, namespace=name)
    except ValueError:  # nobody has asked for anything in this cluster
        return
    try:
        ray.get(coordinator.cancel_request.remote(f"train-{run_id}"), timeout=ANSWERS)
    except (GetTimeoutError, RayActorError):
        say("train: Ray did not take back what the last run had asked for; it may hold its workers for three minutes")


def run_id_of(trainer: object) -> str:
    """The id under which a trainer's requests stand; private because Ray gives it to its own callbacks alone."""
    run_id: str = trainer.train_run_context.run_id  # type: ignore[attr-defined]
    return run_id
