"""A batch, a group of lines at a time: what is sent, what came back, what must be asked again.

A client that speaks HTTP/1.1 reads an answer only once it has sent the whole request, and a service that takes lines
only as their results are read would wait for it forever. So lines go in groups, several at a time, each a request of
its own; results are passed on as they come.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from serve.client.errors import LINES_AGAIN, JudgeError
from serve.client.retries import Retries
from serve.schemas import BatchResult, LineError

GROUP = 32
PARALLEL = 2
NDJSON = {"content-type": "application/x-ndjson"}


@dataclass(frozen=True)
class Line:
    """A line of the caller's: its place, counted from 0, and what it says."""

    place: int
    said: Mapping[str, Any]

    @property
    def name(self) -> str | int:
        """The caller's id, or the place."""
        found = self.said.get("id")
        return self.place if found is None else found

    def text(self) -> bytes:
        """As it is sent: with the place as id, so that callers may use an id twice.

        Raises:
            TypeError, ValueError: it is no JSON.
        """
        kept = {name: value for name, value in self.said.items() if value is not None}
        return json.dumps(kept | {"id": self.place}, allow_nan=False).encode() + b"\n"


class Group:
    """Lines that go in one request, until each has its result.

    Attributes:
        ready: results that needed no asking: of lines that are no JSON.
    """

    def __init__(self, lines: list[Line], retries: Retries) -> None:
        self.retries, self.tried = retries, 0
        self.waiting: dict[int, tuple[Line, bytes]] = {}
        self.ready: list[BatchResult] = []
        self.sent: list[int] = []
        for line in lines:
            try:
                self.waiting[line.place] = line, line.text()
            except (TypeError, ValueError) as exc:
                error = LineError(code="invalid_line", message=str(exc))
                self.ready.append(BatchResult(id=line.name, line=line.place + 1, error=error))

    def body(self) -> bytes:
        """The lines that wait for a result."""
        self.sent = list(self.waiting)
        self.last = JudgeError(None, "connection", "the answer ended early", again=True)
        return b"".join(text for _, text in self.waiting.values())

    def take(self, text: bytes) -> BatchResult | None:
        """A line of the answer: the result with the caller's id, or None if the line is to be asked again.

        Raises:
            JudgeError: the service gives up the whole batch, or this is no batch result.
        """
        try:
            result = BatchResult.model_validate_json(text)
        except ValidationError:
            raise JudgeError(200, "not_a_judgment", "the answer is no batch result") from None
        failed = result.error
        place = result.id
        if place is None and failed and failed.code == "line_too_long" and result.line:
            place = self.sent[result.line - 1]  # the service does not read the id of such a line
        if place is None and failed:
            raise JudgeError(None, failed.code, failed.message, again=failed.code in LINES_AGAIN)
        if not isinstance(place, int) or place not in self.waiting:
            raise JudgeError(200, "not_a_judgment", "the answer has a line that was not asked")
        if failed and failed.code in LINES_AGAIN and self.tried < self.retries.times:
            self.last = JudgeError(None, failed.code, failed.message, again=True)
            return None
        line, _ = self.waiting.pop(place)
        return result.model_copy(update={"id": line.name, "line": line.place + 1 if failed else None})

    def wait(self, error: JudgeError | None) -> float:
        """Seconds until the lines that still wait are sent again.

        Args:
            error: that ended the last request; None if it ended by itself.

        Raises:
            JudgeError: there is to be no further try.
        """
        if len(self.waiting) < len(self.sent):
            self.tried = 0  # it gets somewhere
        seconds = self.retries.wait(self.tried, error or self.last)
        self.tried += 1
        return seconds


class Splitter:
    """Bytes as they come to whole lines. httpx2 would also split at what ends a line in Unicode, inside a critique."""

    def __init__(self) -> None:
        self.rest = b""

    def lines(self, chunk: bytes) -> list[bytes]:
        """The lines that are whole now."""
        *whole, self.rest = (self.rest + chunk).split(b"\n")
        return [line for line in whole if line.strip()]
