"""The app of the annotation page: files, the pairs in an annotator's own order, and answers into the database."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from pydantic import AfterValidator, BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pipelines.core.determinism import unit
from pipelines.experiments.audit.answers import BETTER, SUBSTANCE, UNCLEAR, Answers
from pipelines.experiments.audit.names import checked

FOLDER = Path(__file__).parent / "page"
TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(("keys.js", "page.js", "questions.js", "store.js"), "text/javascript; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
MOST_BYTES = 4096  # of a body: five short answers and a name
Name = Annotated[str, AfterValidator(checked)]


class Given(BaseModel, extra="forbid"):
    """One annotator's answers about one pair."""

    annotator: Name
    answers: dict[str, str] = Field(min_length=1)
    seconds: float = Field(0, ge=0, le=86_400)


def build(
    pairs: Sequence[dict[str, Any]], answers: Answers, seed: int, key: str | None, hosts: Sequence[str]
) -> FastAPI:
    """The app.

    Args:
        pairs: as the page gets them (`sample.as_shown`).
        answers: the database.
        seed: of the annotators' orders.
        key: that requests must carry; None on a machine's own address.
        hosts: names by which the page may be asked for: another one would be another site's trick.
    """
    app = FastAPI(title="openselene audit", openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.middleware("http")(_guarded)
    app.include_router(_files())
    app.include_router(_api({pair["id"]: pair for pair in pairs}, answers, seed), dependencies=[Depends(_key(key))])
    return app


async def _guarded(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    """Small bodies only, and headers on every answer."""
    length = request.headers.get("content-length", "0")
    counted = length.isdigit() and int(length) <= MOST_BYTES and "transfer-encoding" not in request.headers
    if request.method != "GET" and not counted:
        return Response("too large", status_code=413, headers=HEADERS)
    answer = await call(request)
    answer.headers.update(HEADERS)
    return answer


def _key(key: str | None) -> Callable[[Request], None]:
    def check(request: Request) -> None:
        given = request.headers.get("x-audit-key", "")
        if key is not None and not hmac.compare_digest(given.encode(), key.encode()):
            raise HTTPException(401, "the address must end with #key=KEY")

    return check


def _files() -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def page() -> Response:
        return _file("index.html")

    @router.get("/page/{name}")
    def part(name: str) -> Response:
        return _file(name)

    return router


def _file(name: str) -> Response:
    if name not in TYPES:
        raise HTTPException(404, "no such file")
    return Response((FOLDER / name).read_bytes(), media_type=TYPES[name])


def _api(pairs: dict[str, dict[str, Any]], answers: Answers, seed: int) -> APIRouter:
    router = APIRouter(prefix="/api")

    @router.get("/pairs")
    def of(annotator: str) -> dict[str, Any]:
        """All pairs in this annotator's order, and what he has answered: his place is where an answer is missing."""
        annotator = _known_as(annotator)
        order = sorted(pairs, key=lambda pair: unit(seed, f"audit order of {annotator}", pair))
        return {"annotator": annotator, "pairs": [pairs[pair] for pair in order], "answers": answers.of(annotator)}

    @router.put("/answers/{pair}")
    def save(pair: str, given: Given) -> dict[str, Any]:
        """Keep the answers about a pair; they are on the disk once this returns."""
        if pair not in pairs:
            raise HTTPException(404, "no such pair")
        if problem := problem_of(given.answers, pairs[pair]["allowed"]):
            raise HTTPException(422, problem)
        answers.save(given.annotator, pair, given.answers, given.seconds)
        return {"saved": pair}

    return router


def _known_as(name: str) -> str:
    try:
        return checked(name)
    except ValueError as exc:
        raise HTTPException(422, str(exc)) from None


def problem_of(given: dict[str, str], allowed: Sequence[str]) -> str | None:
    """Why some answers cannot be kept; None if they can."""
    values = {"side": [*allowed, UNCLEAR], "substance": list(SUBSTANCE)}
    known = {f"{name}_{number}": values[name] for name in values for number in (1, 2)} | {"better": list(BETTER)}
    for question, value in given.items():
        if question not in known:
            return f"no such question: {question[:40]!r}"
        if value not in known[question]:
            return f"no such answer to {question}: {value[:40]!r}"
    missing = sorted(known.keys() - given.keys())
    return f"not answered: {', '.join(missing)}" if missing else None
