"""The access log: one JSON line a request, with no text of the request in it.

Written by a thread: a full pipe or a slow disk holds up no request. What comes while 10,000 lines wait is dropped.
"""

from __future__ import annotations

import atexit
import json
import logging
import queue
import sys
import time
from contextlib import suppress
from logging.handlers import QueueHandler, QueueListener
from typing import Any

NAME = "openselene.access"
WAITING = 10_000  # lines


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = record.args if isinstance(record.args, dict) else {}
        return json.dumps({"time": f"{at}.{int(record.msecs):03d}Z", **fields})


class _Queue(QueueHandler):
    """Hands the record over as it is: nothing is formatted while a request waits."""

    def prepare(self, record: logging.LogRecord) -> Any:
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        with suppress(queue.Full):  # a log that cannot keep up must not stop the service
            self.queue.put_nowait(record)


class AccessLog:
    """Lines of the logger `openselene.access`; to standard error, unless someone has given that logger handlers."""

    def __init__(self) -> None:
        self._log = logging.getLogger(NAME)
        if not self._log.handlers:
            self._log.setLevel(logging.INFO)
            self._log.propagate = False
            lines: queue.Queue[logging.LogRecord] = queue.Queue(WAITING)
            written = logging.StreamHandler(sys.stderr)
            written.setFormatter(_Json())
            listener = QueueListener(lines, written)
            listener.start()
            atexit.register(listener.stop)
            self._log.addHandler(_Queue(lines))

    def write(self, **fields: Any) -> None:
        """One line. `key` is the id of the key, never the key."""
        # A mapping as the only argument: `logging` keeps it as the record's arguments.
        self._log.info("%(id)s %(key)s %(route)s %(status)s", fields)
