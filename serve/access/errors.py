"""The gate's own refusals."""

from __future__ import annotations

from serve.refused import Refused


def no_key() -> Refused:
    """401; the same words whatever is wrong with the key, so that a guess learns nothing."""
    return Refused(
        401,
        "invalid_api_key",
        "this needs a valid API key: Authorization: Bearer sel_...",
        why="no_key",
        headers={"www-authenticate": 'Bearer realm="openselene"'},
    )


def too_large(most: int) -> Refused:
    """413; the connection is closed, as the rest of the body is not read."""
    return Refused(
        413, "body_too_large", f"the body has more than {most} bytes", why="body", headers={"connection": "close"}
    )


def failed() -> Refused:
    """500; what happened is in the log, under the request's id."""
    return Refused(
        500,
        "internal_error",
        "the service failed at this request; its log names the X-Request-Id of this answer",
    )
