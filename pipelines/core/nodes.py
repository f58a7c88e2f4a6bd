"""The nodes of the cluster, and failures that come from the loss of one."""

from __future__ import annotations

import time
from collections.abc import Iterator

NOTICED = 60.0  # seconds in which a cluster notices that a node is gone
POLL = 0.5


def live() -> set[str] | None:
    """Ids of the nodes that are there; None without a cluster."""
    import ray

    return {node["NodeID"] for node in ray.nodes() if node["Alive"]} if ray.is_initialized() else None


def own() -> str:
    """Id of this process's node; empty without a cluster."""
    import ray

    return (ray.get_runtime_context().get_node_id() or "") if ray.is_initialized() else ""


def from_a_lost_node(exc: BaseException, before: set[str] | None, patience: float = NOTICED) -> bool:
    """Whether a stream failed because a node was lost, in a place where Ray does not try again by itself.

    Such places are the actors that read the footers of parquet files, and whatever those own. An exception of a stage
    is none of it.

    Args:
        exc: what the stream raised.
        before: the nodes that were there when it began.
        patience: seconds to wait until the cluster has noticed.
    """
    if not before or not any(map(_of_ray_itself, _chain(exc))):
        return False
    deadline = time.monotonic() + patience
    while not before - (live() or set()):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


def _of_ray_itself(exc: BaseException) -> bool:
    from ray import exceptions

    kinds = (
        exceptions.ActorDiedError,
        exceptions.ActorUnavailableError,
        exceptions.NodeDiedError,
        exceptions.WorkerCrashedError,
        exceptions.ObjectLostError,
        exceptions.TaskUnschedulableError,
    )
    # Of some exceptions within tasks, the death of an actor among them, only the text comes back from a worker.
    text = isinstance(exc, exceptions.UnserializableException) and any(kind.__name__ in str(exc) for kind in kinds)
    # Of an actor that could not be set up, the exception is the stage's own.
    return (text or isinstance(exc, kinds)) and "creation task" not in str(exc)


def _chain(exc: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        yield exc
        exc = getattr(exc, "cause", None) or exc.__cause__ or exc.__context__
