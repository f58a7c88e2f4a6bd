"""The judge behind HTTP: `serve run serve.app:app`, or `serve deploy serve/config.yaml`.

POST /judge takes one example and answers with critique, verdict and the probabilities of the verdicts.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field, model_validator
from ray import serve

from pipelines.core.errors import RowFailure, UserError
from pipelines.engines.config import EngineConfig
from pipelines.judging.tasks import TASKS

TEXT = 100_000  # most characters of one field
api = FastAPI(title="openselene judge")


class Request(BaseModel):
    """One example to judge; the fields are those of an Example record."""

    model_config = ConfigDict(extra="forbid")

    task: Literal["pairwise", "absolute", "classification"]
    instruction: str = Field(min_length=1, max_length=TEXT)
    responses: list[str] = Field(min_length=1, max_length=2)
    context: str = Field("", max_length=TEXT)
    reference: str = Field("", max_length=TEXT)
    rubric: str = Field("", max_length=TEXT)
    allowed: list[str] | None = Field(None, min_length=2, max_length=20)
    template: str | None = Field(None, pattern=r"^[a-z0-9_]+$")
    """A packaged template; null means the server's."""

    @model_validator(mode="after")
    def _whole(self) -> Request:
        wanted = TASKS[self.task].responses
        if len(self.responses) != wanted:
            raise ValueError(f"a {self.task} request has {wanted} response(s), got {len(self.responses)}")
        if any(len(text) > TEXT for text in self.responses):
            raise ValueError(f"a response has more than {TEXT} characters")
        return self


class Judgment(BaseModel):
    """The judge's answer; `verdict` is null if it does not follow the format (`parse_status` says how).

    `thoughts` are what a thinking model wrote before its answer.
    """

    verdict: str | None
    critique: str
    thoughts: str | None
    parse_status: str
    verdict_probs: dict[str, float]
    model: str
    latency: float
    prompt_tokens: int
    output_tokens: int


@serve.deployment
@serve.ingress(api)
class JudgeService:
    """One replica holds one vLLM engine.

    Args:
        engine: keys of EngineConfig; `model` is a folder, a hub id or `embedded`.
        template: `compact` or `original`: the template of requests that do not name one.
        max_tokens: most tokens of an answer.
    """

    def __init__(self, engine: dict[str, Any], template: str = "original", max_tokens: int = 512) -> None:
        from pipelines.engines.llm.engine import engine_environment, start_engine
        from pipelines.engines.llm.judge import Judge

        config = EngineConfig.model_validate(engine)
        os.environ.update(engine_environment(config))
        self.model, self.template = config.model, template
        self.ask, self.judge = start_engine(config), Judge(max_tokens)

    @api.post("/judge")
    async def post_judge(self, request: Request) -> Judgment:
        """Judge one example."""
        row: dict[str, Any] = {
            **request.model_dump(),
            "allowed": request.allowed or list(TASKS[request.task].verdicts),
            "template": request.template or f"{request.task}_{self.template}",
        }
        try:
            await self.judge.run(row, self.ask)
        except UserError as exc:
            raise HTTPException(status_code=422, detail=str(exc)) from None
        except RowFailure as exc:
            raise HTTPException(status_code=422, detail=exc.detail or exc.reason) from None
        return Judgment(
            verdict=row["predicted"],
            critique=row["critique"],
            thoughts=row["thoughts"],
            parse_status=row["parse_status"],
            verdict_probs=dict(row["verdict_probs"]),
            model=self.model,
            latency=row["latency"],
            prompt_tokens=row["prompt_tokens"],
            output_tokens=row["output_tokens"],
        )

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces a replica whose engine is dead."""
        await self.ask.check_health()

    @api.get("/health")
    async def health(self) -> dict[str, str]:
        """Answers once the engine is up."""
        return {"status": "ok", "model": self.model}


def build(args: dict[str, Any]) -> serve.Application:
    """The application from the `args` of serve/config.yaml."""
    return JudgeService.bind(**args)  # type: ignore[attr-defined]


# `serve run serve.app:app`: the demo's judge, or the model that OPENSELENE_MODEL names.
app = build(
    {
        "engine": {"model": os.environ.get("OPENSELENE_MODEL", "out/local/model"), "max_model_len": 1024},
        "template": os.environ.get("OPENSELENE_TEMPLATE", "compact"),
        "max_tokens": 80,
    }
)
