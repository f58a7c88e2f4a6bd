"""Keep a job's terminal readable: drop lines that libraries print and nobody can act on."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Each of these was seen in a run that went well. Everything else passes.
NOISE = re.compile(
    "|".join(
        [
            r"core_worker\.cc:\d+: Actor with class name: 'MapWorker",  # every actor pool of Ray Data
            r"Calling ray\.init\(\) again",  # ray.data.llm makes sure that Ray runs
            r"No cloud storage mirror configured",
            r"PYTHON worker processes have been started on node",  # light stages ask for parts of a CPU
            r"Setting accelerator to CPU\.",  # DeepSpeed, at import
            r"RayDeprecationWarning",
            r"pkg_resources is deprecated",
            r"Converting and de-quantizing GGUF|Loading weights:|Writing model shards:",
        ]
    )
)


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Filter standard error while the block runs, the C++ parts of libraries included."""
    sys.stderr.flush()
    saved = os.dup(2)
    read, write = os.pipe()
    os.dup2(write, 2)
    os.close(write)
    thread = threading.Thread(target=_forward, args=(read, saved), name="quiet-stderr", daemon=True)
    thread.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)  # closes the last writer of this process; children may still hold the pipe
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
