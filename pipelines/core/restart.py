"""Faults of an actor: end its process, so that Ray starts a fresh one and runs the batch again, up to a limit.

After an exception that is no row's fault a process cannot be trusted: its GPU may be in error, its engine dead. A batch
that has seen several processes end is itself the cause: its exception is let through, and ends the job with its
traceback. Ray's own limits (`max_restarts`, `max_task_retries`) stay at infinity: they can be set by deprecated
arguments only, and their error would not say what happened.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from pipelines.core import storage
from pipelines.core.determinism import digest
from pipelines.core.errors import UserError
from pipelines.core.storage import Place

RETRIES = 3
_running: dict[int, pa.Table] = {}


@contextmanager
def restart_on_fault(batch: pa.Table) -> Iterator[None]:
    """End this actor's process if the block raises anything but a UserError.

    The exception is let through outside an actor, and after `RETRIES` further tries.

    Args:
        batch: what the block works on; several may be in progress at once.
    """
    _running[id(batch)] = batch
    try:
        yield
    except UserError:
        raise
    except Exception:
        if not _in_actor() or _failures(batch) > RETRIES:
            raise
        sys.stderr.flush()
        # Not `ray.actor.exit_actor`: after an exit on purpose Ray does not run the batch again.
        os._exit(1)
    finally:
        del _running[id(batch)]


def _in_actor() -> bool:
    import ray

    return ray.is_initialized() and ray.get_runtime_context().get_actor_id() is not None


def _failures(batch: pa.Table) -> int:
    """Processes of this machine that have ended under the batch, this one included."""
    traceback.print_exc()
    for other in list(_running.values()):
        storage.write_text(_notes(other) / f"{os.getpid()}.txt", traceback.format_exc())
    return len(storage.files(_notes(batch)))


def _notes(batch: pa.Table) -> Place:
    """A folder of Ray's session: the next process of this actor, which has the same id, finds it there."""
    import ray

    context = ray.get_runtime_context()
    session = Place(context.get_temp_dir()) / context.get_session_name()
    return session / "openselene-faults" / context.get_actor_id() / digest(batch.to_pylist())
