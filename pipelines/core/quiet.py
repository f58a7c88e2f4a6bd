"""Keep a job's terminal readable: drop lines that libraries print and nobody can act on."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

# Each of these was seen in a run that went well. Everything else passes.
NOISE = re.compile(
    "|".join(
        [
            r"core_worker\.cc:\d+: Actor with class name: 'MapWorker",  # every actor pool of Ray Data
            r"PYTHON worker processes have been started on node",  # light stages ask for parts of a CPU
            r"Setting accelerator to CPU\.",  # DeepSpeed, at import
            r"RayDeprecationWarning",
            r"pkg_resources is deprecated",
            r"Converting and de-quantizing GGUF|Loading weights:|Writing model shards:",
        ]
    )
)


@contextmanager
def quiet_output() -> Iterator[None]:
    """Filter standard output and standard error while the block runs, the C++ parts of libraries included."""
    with _quiet(sys.stdout, 1), _quiet(sys.stderr, 2):
        yield


@contextmanager
def _quiet(stream: TextIO, number: int) -> Iterator[None]:
    stream.flush()
    saved = os.dup(number)
    read, write = os.pipe()
    os.dup2(write, number)
    os.close(write)
    thread = threading.Thread(target=_forward, args=(read, saved), name=f"quiet-{number}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stream.flush()
        os.dup2(saved, number)  # closes the last writer of this process; children may still hold the pipe
        thread.join(timeout=1)


def _forward(read: int, out: int) -> None:
    with os.fdopen(read, "rb", buffering=0) as pipe:
        rest = b""
        while chunk := pipe.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if not NOISE.search(line.decode("utf-8", "replace")):
                    os.write(out, line + b"\n")
        if rest:
            os.write(out, rest)
