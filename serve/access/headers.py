"""Headers in and out: what the app may see of a request, and what every answer carries."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from itertools import count

from serve.access.paths import Policy
from serve.refused import Refused

Headers = list[tuple[bytes, bytes]]
MOST = 32_768  # bytes of all headers

# What the app sees. All else is dropped: vLLM and Ray Serve steer by headers of their own (priority, session, rank,
# model id, time limit), and the key is nobody's business behind this point.
_PASSED = frozenset(
    b"host content-type content-length transfer-encoding accept accept-encoding accept-language user-agent expect "
    b"if-none-match if-modified-since range traceparent tracestate".split()
)
# It tells Ray Serve's proxy, which has read it already, that a client who hangs up is to be ignored: his judgment
# would run to its end. So it is no use to drop it here.
_UNHEARD = b"x-request-disconnect-disabled"
# Unlike any other's, and no secret: the system's random numbers once, not once a request.
_PROCESS, _NUMBERS = uuid.uuid4().hex[:16], count(1)
_SANE = re.compile(rb"[A-Za-z0-9._-]{1,64}")
# Answers that another layer must not add: CORS is off.
_TAKEN_OUT = b"access-control-"
_POLICIES: dict[Policy, bytes] = {
    "api": b"default-src 'none'; frame-ancestors 'none'",
    "page": b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    # FastAPI's page has its script in the page itself, and nothing of a request in it.
    "docs": b"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    b"img-src 'self' data:; base-uri 'none'; frame-ancestors 'none'",
}
_ALWAYS: Headers = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
_SECURE: dict[Policy, Headers] = {
    policy: [
        *_ALWAYS,
        (b"content-security-policy", value),
        *([(b"cache-control", b"no-store")] if policy == "api" else []),
    ]
    for policy, value in _POLICIES.items()
}
_OURS = {policy: frozenset(name for name, _ in headers) for policy, headers in _SECURE.items()}


def check(headers: Headers) -> None:
    """Refuse headers that are too long or not allowed.

    Raises:
        Refused: 431 or 400.
    """
    if sum(len(name) + len(value) for name, value in headers) > MOST:
        raise Refused(431, "headers_too_large", f"the headers have more than {MOST} bytes")
    if any(name == _UNHEARD for name, _ in headers):
        raise Refused(400, "header_not_allowed", f"the header {_UNHEARD.decode()} is not allowed")


def the_only(headers: Headers, name: bytes) -> bytes | None:
    """The value of a header, None if there is none.

    Raises:
        ValueError: it stands there twice, and two readers may take one each.
    """
    values = [value for found, value in headers if found == name]
    if len(values) > 1:
        raise ValueError("a header twice")
    return values[0] if values else None


def request_id(headers: Headers) -> tuple[str, bool]:
    """The request's id, and whether it is the caller's: a harmless one is kept, for whoever follows it through logs."""
    given = [value for name, value in headers if name == b"x-request-id"]
    if len(given) == 1 and _SANE.fullmatch(given[0]):
        return given[0].decode(), True
    return f"{_PROCESS}-{next(_NUMBERS)}", False


def passed(headers: Headers, number: str, length: int | None) -> Headers:
    """The headers that the app sees.

    Args:
        headers: of the request.
        number: the request's id, which vLLM gives to its engine too.
        length: bytes of a body that was read, and perhaps changed; None: as it comes.
    """
    kept = [(name, value) for name, value in headers if name in _PASSED]
    if length is not None:
        kept = [(name, value) for name, value in kept if name not in (b"content-length", b"transfer-encoding")]
        kept.append((b"content-length", str(length).encode()))
    return [*kept, (b"x-request-id", number.encode())]


def secured(headers: Iterable[tuple[bytes, bytes]], policy: Policy, number: str | None, closing: bool) -> Headers:
    """The headers of an answer: the app's, ours where both have one, and the id."""
    ours = _OURS[policy]
    kept = [
        (name, value)
        for name, value in headers
        if (low := name.lower()) not in ours and low != b"x-request-id" and not low.startswith(_TAKEN_OUT)
    ]
    if number:
        kept.append((b"x-request-id", number.encode()))
    if closing:
        kept.append((b"connection", b"close"))
    return kept + _SECURE[policy]
