"""The judge's routes, for whatever app holds a JudgeService in `app.state.judge`."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from serve.batch import NDJSON, Batch
from serve.errors import OwnErrors, documented
from serve.live import Events, judged
from serve.refused import Refused
from serve.room import RETRY_AFTER
from serve.schemas import (
    AbsoluteRequest,
    BatchResult,
    ClassifyRequest,
    JudgeRequest,
    JudgeResponse,
    PairwiseRequest,
)
from serve.service import JudgeService

router = APIRouter(route_class=OwnErrors)
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "model": JudgeResponse,
        "description": "The judgment; with `stream`, server-sent events `critique`, then `result` or `error`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **documented(),
}


def service_of(request: Request) -> JudgeService:
    """The app's judge.

    Raises:
        Refused: it is not there yet.
    """
    found = getattr(request.app.state, "judge", None)
    if found is None:
        raise Refused(503, "not_ready", "the model is not loaded yet", retry_after=RETRY_AFTER)
    return found


async def _answer(request: Request, asked: JudgeRequest) -> Response:
    service = service_of(request)
    if asked.stream:
        return Events(service, asked)
    found = await judged(request, service.judge(asked))
    return Response(found.model_dump_json(), media_type="application/json")


@router.post("/v1/judge/pairwise", tags=["judge"], response_model=None, responses=_ANSWER)
async def judge_pairwise(request: Request, body: PairwiseRequest) -> Response:
    """Which of two responses is better."""
    return await _answer(request, body)


@router.post("/v1/judge/absolute", tags=["judge"], response_model=None, responses=_ANSWER)
async def judge_absolute(request: Request, body: AbsoluteRequest) -> Response:
    """A score for one response."""
    return await _answer(request, body)


@router.post("/v1/judge/classify", tags=["judge"], response_model=None, responses=_ANSWER)
async def judge_classify(request: Request, body: ClassifyRequest) -> Response:
    """A label that answers a question, the `rubric`, about one response."""
    return await _answer(request, body)


_LINES = (
    '{"id": 1, "task": "pairwise", "instruction": "2+2?", "responses": ["4", "5"]}\n'
    '{"id": "b", "task": "absolute", "instruction": "2+2?", "response": "4"}\n'
)
# By hand: FastAPI knows of JSON bodies only, and would read this one whole.
_BATCH_BODY = {
    "requestBody": {"required": True, "content": {NDJSON: {"schema": {"type": "string"}, "example": _LINES}}}
}


@router.post(
    "/v1/judge/batch",
    tags=["judge"],
    response_model=None,
    openapi_extra=_BATCH_BODY,
    responses={
        200: {
            "model": BatchResult,
            "description": "One line for each line, in order of completion.",
            "content": {NDJSON: {"example": '{"id":1,"result":{}}\n{"id":null,"line":2,"error":{}}\n'}},
        },
        **documented(401, 403, 413, 429, 500, 503),
    },
)
async def judge_batch(request: Request) -> Response:
    """Many requests as NDJSON, each a body of another route with `id` and `task`; a bad line costs that line only."""
    caller = request.scope.get("caller")  # of the gate; there is none in an app without one
    return Batch(service_of(request), caller.turn if caller else None)


@router.get("/v1/models", tags=["models"], response_model=None, responses=documented(401, 403, 429, 503))
async def models(request: Request) -> Response:
    """The judges, in OpenAI's form."""
    started = getattr(request.app.state, "started", 0)
    found = [
        {"id": name, "object": "model", "created": started, "owned_by": "openselene"}
        for name in service_of(request).judges
    ]
    return JSONResponse({"object": "list", "data": found})


@router.get("/healthz", tags=["health"])
async def alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/readyz", tags=["health"], response_model=None, responses=documented(503))
async def ready(request: Request) -> Response:
    """Requests are welcome: the model is loaded, warm and healthy, and the service is not stopping."""
    service = service_of(request)
    why = await _unready(request, service)
    if why:
        raise Refused(503, why[0], why[1], retry_after=RETRY_AFTER)
    return JSONResponse({"status": "ready", "model": service.model.name})


async def _unready(request: Request, service: JudgeService) -> tuple[str, str] | None:
    if getattr(request.app.state, "draining", False):
        return "draining", "the service is stopping"
    if not service.warm:
        return "not_ready", "the model is not warm yet"
    try:
        await service.check_health()
    except Exception:
        return "engine_down", "the model is not available"
    return None
