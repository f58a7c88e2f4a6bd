"""Progress a person can read: rows written so far, rate and time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.core import counts

INTERVAL = 10.0  # seconds between lines


def say(line: str) -> None:
    """One line for the person watching; standard error, so that a job's output stays clean."""
    print(line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def short(seconds: float) -> str:
    """What one item took, in three figures: `0.35 ms`, `692 ms`, `1.19 s`."""
    return f"{seconds:.3g} s" if seconds >= 0.9995 else f"{1000 * seconds:.3g} ms"


@contextmanager
def watch(label: str, total: int, done: Callable[[], int], interval: float = INTERVAL) -> Iterator[None]:
    """Print `label done/total, rate, ETA`, at most every `interval` seconds, while the block runs; a gauge has it too.

    Args:
        label: what is counted.
        total: items in all.
        done: items finished so far; called from a thread of its own.
        interval: seconds between lines.
    """
    stop = threading.Event()
    last, start = done(), time.monotonic()
    moving: tuple[int, float] | None = None  # from the first new row on: engines take a while to start

    def report() -> None:
        nonlocal last, moving
        while not stop.wait(interval):
            now, at = done(), time.monotonic()
            if now > last and moving is None:
                moving = (now, at)
                say(f"  {label}: {now}/{total} rows after {clock(at - start)}")
            elif now > last and moving is not None:
                rate = (now - moving[0]) / (at - moving[1])
                say(f"  {label}: {now}/{total} rows, {rate:.2f} rows/s, ETA {clock((total - now) / rate)}")
                counts.time_left(label, (total - now) / rate)
            last = now

    thread = threading.Thread(target=report, name=f"progress-{label}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        counts.time_left(label, 0)
