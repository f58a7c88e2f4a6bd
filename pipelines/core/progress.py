"""Progress a person can read: rows written so far, rate and time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERVAL = 10.0  # seconds between lines


def say(line: str) -> None:
    """One line for the person watching; standard error, so that a job's output stays clean."""
    print(line, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


@contextmanager
def watch(label: str, total: int, done: Callable[[], int], interval: float = INTERVAL) -> Iterator[None]:
    """Print `label done/total, rate, ETA` every `interval` seconds while the block runs.

    Args:
        label: what is counted.
        total: items in all.
        done: items finished so far; called from a thread of its own.
        interval: seconds between lines.
    """
    stop = threading.Event()
    first, start = done(), time.monotonic()

    def report() -> None:
        while not stop.wait(interval):
            now = done()
            rate = (now - first) / (time.monotonic() - start)
            left = f"ETA {clock((total - now) / rate)}" if rate > 0 else "ETA unknown"
            say(f"  {label}: {now}/{total} rows, {rate:.2f} rows/s, {left}")

    thread = threading.Thread(target=report, name=f"progress-{label}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
