"""What goes wrong between a client and the service, as one exception."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

AGAIN = frozenset({429, 502, 503})
"""Statuses after which the same request may do better. A judgment changes nothing on the service, so that a request
whose answer was lost may be sent again. 504 is not among them: what took too long would take as long again."""
LINES_AGAIN = frozenset(
    {
        "concurrency_limit_exceeded",
        "draining",
        "engine_down",
        "not_ready",
        "queue_full",
        "rate_limit_exceeded",
    }
)
"""Codes of a batch's lines that say the same as these statuses."""


class JudgeError(Exception):
    """A request that was not answered with a judgment.

    Attributes:
        status: of HTTP; None if there was no whole answer.
        code: the kind of error, such as `invalid_request`, `queue_full` or `connection`.
        message: what the service says, for a person.
        request_id: names the request in the service's log; None without an answer.
        retry_after: seconds that the service asks to wait, or 0.
        again: whether the same request may do better later.
    """

    def __init__(
        self,
        status: int | None,
        code: str,
        message: str,
        *,
        request_id: str | None = None,
        retry_after: float = 0.0,
        again: bool = False,
    ) -> None:
        super().__init__(status, code, message)
        self.status, self.code, self.message = status, code, message
        self.request_id, self.retry_after, self.again = request_id, retry_after, again

    def __str__(self) -> str:
        named = " ".join(str(part) for part in (self.status, self.code) if part is not None)
        return f"{named}: {self.message}" + (f" (request {self.request_id})" if self.request_id else "")


def refused(response: httpx2.Response) -> JudgeError:
    """The error of an answer whose status is not 200; its body has been read."""
    again = response.status_code in AGAIN
    try:
        said = response.json()["error"]
        code, message = str(said["code"]), str(said["message"])
    except (ValueError, KeyError, TypeError):  # of a proxy or of Ray Serve
        code, message = "http_error", response.text[:200].strip() or response.reason_phrase
        again |= response.status_code == 500  # Serve's proxy says so of a replica that died; the service has its form
    return JudgeError(
        response.status_code,
        code,
        message,
        request_id=response.headers.get("x-request-id"),
        retry_after=seconds_of(response.headers.get("retry-after")),
        again=again,
    )


def seconds_of(retry_after: str | None) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 if it is missing or neither."""
    if not retry_after:
        return 0.0
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return 0.0


@contextmanager
def connection_errors() -> Iterator[None]:
    """Turn what httpx2 raises into JudgeError; a lost connection may be tried again, an answer that is late may not."""
    try:
        yield
    except (httpx2.ReadTimeout, httpx2.WriteTimeout):
        raise JudgeError(None, "timeout", "no answer in time") from None
    except httpx2.TransportError as exc:
        again = not isinstance(exc, (httpx2.UnsupportedProtocol, httpx2.SSEError))
        raise JudgeError(None, "connection", str(exc) or type(exc).__name__, again=again) from exc
