"""OpenAI's graders, run by the judge: `/v1/fine_tuning/alpha/graders/run` and `/validate`."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from serve.errors import OwnErrors, documented
from serve.grading.run import GraderRun, check_models
from serve.grading.schemas import RunRequest, RunResponse, ValidateRequest, ValidateResponse
from serve.grading.values import problem_of_item
from serve.live import judged
from serve.refused import Refused
from serve.routes import service_of

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders", route_class=OwnErrors, tags=["graders"])


@router.post("/run", response_model=None, responses={200: {"model": RunResponse}, **documented()})
async def run_grader(request: Request, body: RunRequest) -> Response:
    """Grade what a model wrote: `string_check`, `text_similarity`, `label_model`, `score_model` or `multi`."""
    if problem := problem_of_item(body.item):
        raise Refused(422, "invalid_request", f"item: {problem}", param="item")
    found = await judged(request, GraderRun(service_of(request), body)())
    return Response(found.model_dump_json(), media_type="application/json")


@router.post("/validate", response_model=None, responses={200: {"model": ValidateResponse}, **documented()})
async def validate_grader(request: Request, body: ValidateRequest) -> Response:
    """Whether this service can run a grader; nothing is asked of the model."""
    check_models(service_of(request), body.grader)
    understood = ValidateResponse(grader=body.grader)
    return Response(understood.model_dump_json(exclude_none=True), media_type="application/json")
