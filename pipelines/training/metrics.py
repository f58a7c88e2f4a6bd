"""The metrics file of a run, one JSON object a step: written by rank 0, followed by the driver."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipelines.core.files import write_text
from pipelines.core.progress import INTERVAL, clock, say

HELDOUT = "heldout.jsonl"  # beside the metrics: one line for each time the held-out pairs were judged
TAIL = 2**14  # bytes; more than a few lines

Step = dict[str, Any]


def append(path: Path, step: Step) -> None:
    """Add one step.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(step, allow_nan=False) + "\n")


def last(path: Path) -> Step | None:
    """The last whole step of the file."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - TAIL, 0))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return None
    for line in reversed(lines[:-1]):  # what follows the last newline is empty, or being written
        step = _parse(line)
        if step is not None:
            return step
    return None


def rewind(path: Path, step: int) -> float:
    """Drop what was logged after `step`, which training now does again; return the seconds trained until then."""
    if not path.exists():
        return 0.0
    steps = [s for line in path.read_bytes().split(b"\n") if (s := _parse(line)) and s["step"] <= step]
    write_text(path, "".join(json.dumps(s) + "\n" for s in steps))
    return float(steps[-1]["elapsed"]) if steps else 0.0


@contextmanager
def follow(path: Path, interval: float = INTERVAL) -> Iterator[None]:
    """Print step, loss, speed and ETA every `interval` seconds while the block runs."""
    stop = threading.Event()

    def report() -> None:
        shown = -1
        while not stop.wait(interval):
            step = last(path)
            if step and step["step"] != shown:
                shown = step["step"]
                say(line(step))

    thread = threading.Thread(target=report, name="progress-train", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def line(step: Step) -> str:
    """A step in words."""
    left = (step["steps"] - step["step"]) * step["elapsed"] / step["step"]
    return (
        f"  train: step {step['step']}/{step['steps']}, loss {step['loss']:.3f}, "
        f"preferred {step['rewards/accuracies']:.2f}, {step['pairs_per_second']:.2f} pairs/s, ETA {clock(left)}"
    )


def _parse(text: bytes) -> Step | None:
    try:
        step = json.loads(text)
    except ValueError:
        return None
    return step if isinstance(step, dict) and "step" in step else None
