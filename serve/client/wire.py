"""What goes over the wire: requests as JSON, answers as models, events as pieces of a critique."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

import httpx2
from pydantic import ValidationError

from serve.client.errors import JudgeError, refused
from serve.schemas import JudgeResponse

KEY_VARIABLE = "OPENSELENE_API_KEY"


class Message(TypedDict):
    """One turn of a chat."""

    role: str
    content: str


class Criterion(TypedDict):
    """One of several rubrics of a request."""

    name: str
    rubric: str
    allowed: NotRequired[Sequence[str]]


class Asked(TypedDict, total=False):
    """What every task takes; give `instruction` or `messages`. What is left out is the service's default."""

    instruction: str
    messages: Sequence[Message]
    context: str
    rubric: str
    reference: str
    allowed: Sequence[str]
    template: str
    model: str
    with_critique: bool
    max_tokens: int
    criteria: Sequence[Criterion]


@dataclass(frozen=True)
class Piece:
    """A further piece of a critique, as it is written.

    Attributes:
        criterion: name of the criterion; None if the request has none.
        order: given or swapped.
        text: the piece.
    """

    criterion: str | None
    order: str
    text: str


OnCritique = Callable[[Piece], None]


def settings(base_url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    """Arguments of httpx2's clients; `base_url` may end with `/v1`, as OpenAI's clients want it."""
    key = api_key if api_key is not None else os.environ.get(KEY_VARIABLE)
    return {
        "base_url": base_url.rstrip("/").removesuffix("/v1"),
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": httpx2.Timeout(timeout, connect=min(10.0, timeout)),
    }


def body_of(asked: Mapping[str, Any], *, stream: bool = False) -> dict[str, Any]:
    """The body of a request, without what is None."""
    said = {name: value for name, value in asked.items() if value is not None}
    return said | {"stream": True} if stream else said


def same_replica(body: Mapping[str, Any]) -> dict[str, str]:
    """A header by which Ray Serve sends requests that begin alike to one replica, whose cache holds the beginning."""
    beginning = json.dumps([body.get(name) for name in ("instruction", "messages", "context")], default=list)
    return {"x-session-id": hashlib.sha256(beginning.encode("utf-8", "replace")).hexdigest()[:32]}


def judged(response: httpx2.Response) -> JudgeResponse:
    """The judgment in an answer that has been read.

    Raises:
        JudgeError: it is a refusal, or no judgment.
    """
    if response.status_code != 200:
        raise refused(response)
    return _read(response.content, response)


def _read(content: bytes | str, response: httpx2.Response) -> JudgeResponse:
    try:
        return JudgeResponse.model_validate_json(content)
    except ValidationError:
        said = "the answer is no judgment: is the address that of a judge service?"
        raise JudgeError(
            response.status_code, "not_a_judgment", said, request_id=response.headers.get("x-request-id")
        ) from None


class Hearing:
    """Reads a judgment that comes as events.

    Attributes:
        begun: a piece was passed on, so that another try would repeat it.
    """

    def __init__(self, on_critique: OnCritique) -> None:
        self.on_critique, self.begun = on_critique, False

    def take(self, event: httpx2.ServerSentEvent, response: httpx2.Response) -> JudgeResponse | None:
        """Pass a piece on; returns the judgment if the event has it.

        Raises:
            JudgeError: the judgment failed.
        """
        if event.event == "critique":
            self.begun = True
            said = json.loads(event.data)
            self.on_critique(Piece(said["criterion"], said["order"], said["text"]))
        elif event.event == "result":
            return _read(event.data, response)
        elif event.event == "error":
            said = json.loads(event.data)["error"]
            raise JudgeError(None, said["code"], said["message"], request_id=response.headers.get("x-request-id"))
        return None

    def cut(self) -> JudgeError:
        """The error of a stream that ended without a judgment."""
        return JudgeError(None, "connection", "the answer ended before its judgment", again=True)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Within, an error after the first piece is not tried again."""
        try:
            yield
        except JudgeError as exc:
            exc.again = exc.again and not self.begun
            raise
