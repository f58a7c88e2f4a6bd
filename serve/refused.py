"""A request that gets an error: one exception and one form, OpenAI's, for the gate and for the routes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "service_unavailable",
    504: "timeout_error",
}


class Refused(Exception):
    """A request that gets an error.

    Args:
        status: of HTTP.
        code: the kind of error, for programs.
        message: for a person; of the request it holds names of fields alone.
        param: the field at fault.
        why: the reason under which `Watch.refused` counts it; empty: it is not counted.
        retry_after: seconds until another try makes sense.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        why: str = "",
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, code)
        self.status, self.code, self.message, self.param, self.why = status, code, message, param, why
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["retry-after"] = str(max(1, math.ceil(retry_after)))

    def said(self) -> dict[str, Any]:
        """As clients get it."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "code": self.code, "param": self.param}}

    def body(self) -> bytes:
        """The JSON of the answer."""
        return json.dumps(self.said()).encode()
