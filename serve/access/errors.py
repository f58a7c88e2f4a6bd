"""Refusals in OpenAI's error form, which its clients understand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


class Refusal(Exception):
    """A request that is answered here and never reaches the app.

    Args:
        status: HTTP status.
        code: what a program looks at, such as `rate_limit_exceeded`.
        message: what a person reads; holds nothing of the request but names of fields.
        type: OpenAI's class of error.
        param: the field at fault.
        why: the reason under which `Watch.refused` counts it; empty: it is not counted.
        wait: seconds after which to try again.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        why: str = "",
        wait: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.status, self.code, self.message, self.type, self.param, self.why = status, code, message, type, param, why
        self.headers = dict(headers or {})
        if wait is not None:
            self.headers["retry-after"] = str(max(1, math.ceil(wait)))

    def body(self) -> bytes:
        """The JSON of the answer."""
        error = {"message": self.message, "type": self.type, "code": self.code, "param": self.param}
        return json.dumps({"error": error}).encode()


def no_key() -> Refusal:
    """401; the same words whatever is wrong with the key, so that a guess learns nothing."""
    return Refusal(
        401,
        "invalid_api_key",
        "this needs a valid API key: Authorization: Bearer sel_...",
        type="authentication_error",
        why="no_key",
        headers={"www-authenticate": 'Bearer realm="openselene"'},
    )


def too_large(most: int) -> Refusal:
    """413; the connection is closed, as the rest of the body is not read."""
    return Refusal(
        413, "body_too_large", f"the body has more than {most} bytes", why="body", headers={"connection": "close"}
    )


def failed() -> Refusal:
    """500; what happened is in the log, under the request's id."""
    return Refusal(
        500,
        "internal_error",
        "the service failed at this request; its log names the X-Request-Id of this answer",
        type="server_error",
    )
