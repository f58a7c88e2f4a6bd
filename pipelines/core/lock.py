"""One job at a time in an `out_dir`: a note of who is at work there, renewed while it is.

The newest of the numbered notes counts. A note whose process is gone, or that another machine has not renewed for
`STALE` seconds, is no obstacle: the next job writes the next number, which only one of several can.
"""

from __future__ import annotations

import _thread
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psutil  # type: ignore[import-untyped]

from pipelines.core import storage
from pipelines.core.errors import UserError
from pipelines.core.progress import say
from pipelines.core.storage import Place

RENEW, STALE = 15.0, 180.0  # seconds; clocks of two machines may differ by less than the second


@contextmanager
def held(folder: Place) -> Iterator[None]:
    """Keep other jobs out while the block runs.

    Args:
        folder: of the notes, an object of its own.

    Raises:
        UserError: another job is at work, or the folder cannot be written.
    """
    try:
        note = _take(folder)
    except OSError as exc:
        raise UserError(
            f"cannot be written: {exc.strerror or exc}", where=str(folder.parent), fix="choose another out_dir"
        ) from None
    over = threading.Event()
    renewal = threading.Thread(target=_renew, args=(folder, note, over), name="lock", daemon=True)
    renewal.start()
    try:
        yield
    finally:
        over.set()
        renewal.join()
        storage.remove(note)


def _take(folder: Place) -> Place:
    notes = storage.files(folder)
    last = int(notes[-1].name) if notes else 0
    if notes and (holder := _read(notes[-1])) and _alive(holder):
        raise _refused(folder, holder)
    mine = folder / f"{last + 1:09d}"
    if not storage.create(mine, storage.to_json(_me())):
        raise _refused(folder, _read(mine) or {})
    # Numbers begin anew when a job ends, so another may have taken a lower one meanwhile: the later of two gives way.
    for other in storage.files(folder):
        if other != mine and (holder := _read(other)) and _alive(holder):
            storage.remove(mine)
            raise _refused(folder, holder)
    for old in notes:
        storage.remove(old)
    if notes:
        say(f"{folder.parent}: the job that was at work there is gone; going on from what it left")
    return mine


def _me() -> dict[str, Any]:
    process = psutil.Process()
    return {
        "host": socket.gethostname(),
        "space": _space(),
        "pid": process.pid,
        "started": process.create_time(),
        "job": os.environ.get("RAY_JOB_ID") or " ".join([os.path.basename(sys.argv[0]), *sys.argv[1:2]]),
        "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        "heartbeat": time.time(),
    }


def _read(note: Place) -> dict[str, Any] | None:
    try:
        found = storage.read_json(note)
    except (OSError, ValueError):  # gone by now, or not ours
        return None
    return found if isinstance(found, dict) and {"host", "pid", "started", "heartbeat"} <= found.keys() else None


def _alive(holder: dict[str, Any]) -> bool:
    renewed = bool(time.time() - holder["heartbeat"] < STALE)
    if not _near(holder):
        return renewed
    try:
        started = psutil.Process(holder["pid"]).create_time()
    except psutil.Error:
        return False
    if abs(started - holder["started"]) < 1:
        return True
    # Numbers of processes are given again; but the time of a start also moves with the clock as it is set right.
    return renewed and holder["pid"] != os.getpid()


def _near(holder: dict[str, Any]) -> bool:
    """Whether its number names a process here; containers may share the machine's name."""
    return bool(holder["host"] == socket.gethostname() and holder.get("space") == _space())


def _space() -> str:
    """Of the numbers of processes, where the system has several."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _refused(folder: Place, holder: dict[str, Any]) -> UserError:
    who = f"{holder.get('job', '?')}, process {holder.get('pid', '?')} on {holder.get('host', '?')}"
    left = STALE - (time.time() - holder.get("heartbeat", 0.0))
    return UserError(
        f"another job is at work there ({who}, since {holder.get('since', '?')})",
        where=str(folder.parent),
        fix="wait until it ends, stop it, or choose another out_dir"
        + (f"; if it was killed, try again in {left:.0f} s" if left > 0 and holder and not _near(holder) else ""),
    )


def _renew(folder: Place, note: Place, over: threading.Event) -> None:
    """Keep the note fresh; end the job if another has taken over, as after a long standstill."""
    while not over.wait(RENEW):
        try:
            if storage.files(folder)[-1:] != [note]:
                say(f"{folder.parent}: another job has taken over")
                _interrupt()
                return
            storage.write_json(note, {**(_read(note) or _me()), "heartbeat": time.time()})
        except (OSError, UserError) as exc:  # a full disk, an outage: without a next try, others would take over
            say(f"{note}: not renewed, {getattr(exc, 'strerror', None) or exc}")


def _interrupt() -> None:
    """End this process as Ctrl-C would; where that is ignored, as in a script's background job, by SIGTERM."""
    if callable(signal.getsignal(signal.SIGINT)):
        _thread.interrupt_main()
    else:
        os.kill(os.getpid(), signal.SIGTERM)
