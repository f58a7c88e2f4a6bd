"""The logs of a run, one JSON object a line: written by rank 0, followed by the driver."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pipelines.core import counts, storage
from pipelines.core.progress import INTERVAL, clock, say
from pipelines.core.storage import Place

HELDOUT = "heldout.jsonl"  # next to the metrics: one line for each evaluation of the held-out pairs
SHARE = 0.05  # of the time that may go into writing a log

Step = dict[str, Any]


class Log:
    """A log and its only writer. The file is replaced as a whole, since an object store cannot append to one.

    Args:
        place: of the file.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.lines: list[str] = []
        self.written, self.due = 0, 0.0
        self.undone: list[Step] = []  # steps that the last `rewind` took back

    def rewind(self, step: int) -> float:
        """Go on from the file as it was at `step`: what came after is trained again.

        Returns:
            The seconds trained until then.
        """
        found = read(self.place)
        steps = [line for line in found if line["step"] <= step]
        self.undone = found[len(steps) :]
        self.lines, self.written = [json.dumps(line) for line in steps], len(found)
        self.flush()
        return float(steps[-1]["elapsed"]) if steps else 0.0

    def append(self, step: Step) -> None:
        """Add a step; it reaches the file at once, or with one of the next where writing takes long.

        Raises:
            ValueError: a value is NaN or infinite.
        """
        self.lines.append(json.dumps(step, allow_nan=False))
        if time.monotonic() >= self.due:
            self.flush()

    def flush(self) -> None:
        """Write what is not in the file yet."""
        if self.written == len(self.lines):
            return
        start = time.monotonic()
        storage.write_text(self.place, "".join(f"{line}\n" for line in self.lines))
        end = time.monotonic()
        self.written, self.due = len(self.lines), end + (end - start) / SHARE


def read(place: Place) -> list[Step]:
    """The steps of a log; none where there is no file."""
    text = storage.read_text(place) if storage.exists(place) else ""
    return [json.loads(line) for line in text.splitlines()]


@contextmanager
def follow(place: Place, interval: float = INTERVAL) -> Iterator[None]:
    """Print step, loss, speed and ETA every `interval` seconds while the block runs."""
    stop = threading.Event()

    def report() -> None:
        shown = -1
        while not stop.wait(interval):
            steps = read(place)
            if steps and steps[-1]["step"] != shown:
                shown = steps[-1]["step"]
                say(line(steps[-1]))
                counts.progress("train", shown, steps[-1]["steps"])
                counts.time_left("train", left(steps[-1]))

    thread = threading.Thread(target=report, name="progress-train", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def left(step: Step) -> float:
    """Seconds that a training still takes after a step, at the speed so far."""
    return float((step["steps"] - step["step"]) * step["elapsed"] / step["step"])


def line(step: Step) -> str:
    """A step in words."""
    preferred = f"preferred {step['rewards/accuracies']:.2f}, " if "rewards/accuracies" in step else ""
    return (
        f"  train: step {step['step']}/{step['steps']}, loss {step['loss']:.3f}, {preferred}"
        f"{step['pairs_per_second']:.2f} pairs/s, ETA {clock(left(step))}"
    )
