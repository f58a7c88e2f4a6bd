"""Why an engine did not start, in one line.

vLLM's engine lives in a process of its own, which prints what it dies of; the caller is told that it ended. Where
standard error is a file, as that of Ray's workers is, the cause is read there.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from typing import TypeVar

from pipelines.core.errors import UserError

T = TypeVar("T")
UNSAID = "Engine core initialization failed"  # vLLM's words for what it has printed
RAISED = re.compile(r"^(?:\([^)]*\) *)?([A-Za-z_][\w.]*(?:Error|Exception)): (.+)$", re.MULTILINE)
REFUSALS = ("ValueError", "ValidationError", "NotImplementedError")  # of what the config asks for
FOREIGN = "Free memory on device"  # another process has it, and may be about to end
MEMORY = re.compile(r"KV cache|cache blocks|max seq len")
LONGEST = 400  # characters


class Printed:
    """What this process and its children write to standard error from now on, where that is a file."""

    def __init__(self) -> None:
        found = os.fstat(2)
        self.start = found.st_size if stat.S_ISREG(found.st_mode) else None

    def text(self) -> str:
        """All of it; nothing where standard error is a terminal or a pipe, or has no name in /proc."""
        if self.start is None:
            return ""
        try:
            with open("/proc/self/fd/2", "rb") as file:  # by its name here: as it is opened, it may be written only
                file.seek(self.start)
                return file.read().decode("utf-8", "replace")
        except OSError:  # the engine's own error is the one to tell of
            return ""


def started(build: Callable[[], T], model: str) -> T:
    """The engine that `build` makes; where it does not start, one line says why.

    Raises:
        UserError: it cannot be as it is asked for.
    """
    printed = Printed()
    try:
        return build()
    except Exception as exc:  # vLLM raises a dozen types, and the cause may be in what it has printed
        found = start_error(exc, printed.text(), model)
        if found is exc:
            raise
        raise found from exc


def start_error(exc: Exception, printed: str, model: str) -> Exception:
    """What to raise for an engine that did not start.

    Args:
        exc: what vLLM raised.
        printed: what it and its process wrote meanwhile.
        model: the engine's.

    Returns:
        A UserError where the config asks for what cannot be. Else the machine may be at fault: the exception itself,
        with the cause in its words where it has none.
    """
    kind, said = type(exc).__name__, " ".join(str(exc).split())
    if unsaid := UNSAID in said:
        causes = [(name, words) for name, words in RAISED.findall(printed) if UNSAID not in words]
        if not causes:
            return exc
        kind, said = causes[-1]
    if kind.rpartition(".")[2] in REFUSALS and FOREIGN not in said:
        fix = "correct the engine's settings"
        if MEMORY.search(said):
            fix = "lower max_model_len, or give it more: kv_cache_gb, on a GPU engine_args.gpu_memory_utilization"
        return UserError(said[:LONGEST], where=f"the engine of model '{model}' cannot start", fix=fix)
    return RuntimeError(f"the engine of model '{model}' did not start: {kind}: {said[:LONGEST]}") if unsaid else exc
