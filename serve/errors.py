"""Errors of the API: one body for all, in OpenAI's form, that says nothing of a prompt, a key or the program."""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from serve.refused import Refused

log = logging.getLogger("openselene.serve")

CLIENT_GONE = 499  # nobody reads it; the number is nginx's
_NAME = re.compile(r"[A-Za-z0-9_]{1,40}")
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
_SAID = {404: "there is no such path", 405: "this path does not take that method", 413: "the body is too large"}


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str = Field(examples=["prompt of 4100 + answer of 512 tokens exceed 4096"])
    type: str = Field(examples=["invalid_request_error"])
    code: str = Field(examples=["too_long"])
    """The same for every error of a kind."""
    param: str | None = Field(None, examples=["responses.1"])
    """The field at fault."""


class ErrorBody(BaseModel):
    """The body of every error."""

    error: ErrorDetail


class ClientGone(Exception):
    """The client has hung up: there is nobody to answer."""


def not_understood(errors: Sequence[Any]) -> Refused:
    """The first of pydantic's complaints, without the value it complains of.

    Broken JSON, too, is 422 here: one status for all that is not understood.
    """
    first = errors[0]
    place = [str(part) for part in first["loc"] if part != "body"]
    if first["type"] in ("json_invalid", "json_type"):
        return invalid_json()
    # A field that is not known has a name of the client's making: it may be anything.
    named = [part for part in place if _NAME.fullmatch(part)]
    param = ".".join(named) or None
    said = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "union_tag_not_found":
        said = f"{str(first['ctx']['discriminator']).strip(chr(39))} is missing"
    if first["type"] == "union_tag_invalid":  # pydantic's words repeat the value
        said = f"{str(first['ctx']['discriminator']).strip(chr(39))} is one of {first['ctx']['expected_tags']}"
    code = "unknown_field" if first["type"] == "extra_forbidden" else "invalid_request"
    return Refused(422, code, f"{param}: {said}" if param else said, param=param)


def invalid_json() -> Refused:
    """The error for a body that is not JSON, is nested too deep, or is not UTF-8."""
    return Refused(422, "invalid_json", "the body is not JSON in UTF-8, or is nested too deep")


def of_http(exc: HTTPException) -> Refused:
    """The error for what the framework refuses; a 400 is JSON that it could not parse."""
    if exc.status_code == 400:
        return invalid_json()
    code = _CODES.get(exc.status_code, "refused")
    return Refused(exc.status_code, code, _SAID.get(exc.status_code, "the request was refused"))


def unexpected(exc: BaseException) -> Refused:
    """The error for a fault of the program: the log says which and where, and nothing of the request."""
    last = traceback.extract_tb(exc.__traceback__)[-1:]
    place = f"{last[0].filename.rpartition('/')[2]}:{last[0].lineno}" if last else "nowhere"
    log.error("a request failed with %s at %s", type(exc).__name__, place)
    return Refused(500, "internal_error", "the service failed on this request")


def refusal(exc: Exception) -> Refused:
    """Any exception as what the client is told."""
    if isinstance(exc, Refused):
        return exc
    if isinstance(exc, RequestValidationError):
        return not_understood(exc.errors())
    return of_http(exc) if isinstance(exc, HTTPException) else unexpected(exc)


def response_of(refused: Refused) -> JSONResponse:
    """As an HTTP response."""
    return JSONResponse(refused.said(), refused.status, refused.headers)


class OwnErrors(APIRoute):
    """A route whose errors have this form, in whatever app it is: vLLM's has handlers of its own."""

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]
        """The handler, with every exception turned into a response."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except ClientGone:
                return Response(status_code=CLIENT_GONE)
            except Exception as exc:
                return response_of(refusal(exc))

        return answer


def install(app: FastAPI) -> None:
    """Give every error of an app of ours this form: unknown paths and wrong methods too."""

    async def answer(request: Request, exc: Exception) -> Response:
        return response_of(refusal(exc))

    for kind in (Refused, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, answer)


def documented(*codes: int) -> dict[int | str, dict[str, Any]]:
    """What OpenAPI says of a route's errors."""
    meanings = {
        401: "no key, or one that is not known",
        403: "the key lacks the scope",
        404: "no such model here",
        413: "the body is too large",
        422: "not understood: broken JSON, a field that is missing, unknown or wrong, or too long for the model",
        429: "too many requests of this key; see Retry-After",
        500: "a fault of the service",
        503: "the queue is full, or the service is stopping or not ready; see Retry-After",
        504: "not done within the service's time; the work was cancelled",
    }
    return {code: {"model": ErrorBody, "description": meanings[code]} for code in codes or meanings}
