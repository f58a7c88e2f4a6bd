"""The service's log: JSON lines to standard error, one a request, with no text of the request in it.

It has a handler of its own: under vLLM nothing is shown that is said elsewhere than in vLLM's loggers.

Written by a thread, a tenth of a second later: neither a full pipe nor a slow disk holds up a request, and a busy
service wakes the thread ten times a second, not with every request. While 10,000 lines wait, the oldest are dropped.
"""

from __future__ import annotations

import atexit
import json
import logging
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

NAME = "openselene"
WAITING, PAUSE = 10_000, 0.1  # lines; seconds


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        said = {"level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        fields = record.args if isinstance(record.args, dict) else said
        return json.dumps({"time": f"{at}.{int(record.msecs):03d}Z", **fields})


class _Later(logging.Handler):
    """Gives records to another handler, in a thread of its own."""

    def __init__(self, writer: logging.Handler) -> None:
        super().__init__()
        self._writer = writer
        self._records: deque[logging.LogRecord] = deque(maxlen=WAITING)
        self._some = threading.Event()
        threading.Thread(target=self._run, name="access-log", daemon=True).start()
        atexit.register(self.flush)

    def handle(self, record: logging.LogRecord) -> bool:
        self._records.append(record)  # safe without a lock
        if not self._some.is_set():
            self._some.set()
        return True

    def flush(self) -> None:
        """Write what waits."""
        with suppress(IndexError):  # none is left; another thread may have taken the last
            while True:
                self._writer.handle(self._records.popleft())

    def _run(self) -> None:
        while self._some.wait():
            time.sleep(PAUSE)
            self._some.clear()  # before the writing: a record that comes meanwhile sets it again
            self.flush()


def set_up() -> None:
    """Show what the loggers `openselene.*` say, unless someone has given `openselene` handlers of his own."""
    log = logging.getLogger(NAME)
    if not log.handlers:
        log.setLevel(logging.INFO)
        log.propagate = False
        written = logging.StreamHandler(sys.stderr)
        written.setFormatter(_Json())
        log.addHandler(_Later(written))


def flush() -> None:
    """Write what waits, before the process may be ended by a signal."""
    for handler in logging.getLogger(NAME).handlers:
        handler.flush()


class AccessLog:
    """Lines of the logger `openselene.access`."""

    def __init__(self) -> None:
        set_up()
        self._log = logging.getLogger(f"{NAME}.access")

    def write(self, **fields: Any) -> None:
        """One line. `key` is the id of the key, never the key."""
        # A mapping as the only argument: `logging` keeps it as the record's arguments.
        self._log.info("%(id)s %(key)s %(route)s %(status)s", fields)
