"""Engines of this process, judge services and endpoints as judges, asked and read as in all jobs."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from pipelines.core.errors import RowFailure, UserError
from pipelines.core.progress import say
from pipelines.core.records import Row
from pipelines.engines.llm.ask import Ask
from pipelines.engines.llm.steps import PromptStep
from pipelines.judging.parse import READ
from pipelines.judging.tasks import ABSOLUTE
from serve.arena.settings import ArenaConfig, JudgeSpec, ServiceConfig
from serve.arena.store.battles import Texts

log = logging.getLogger("openselene.arena")


@dataclass(frozen=True)
class Said:
    """A judge's score and critique; `status` as in `Judgment`."""

    verdict: str
    critique: str
    status: str


class Failed(Exception):
    """A judge gave no score; `reason` is a few words joined by `_`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ArenaJudge(Protocol):
    """Score one response."""

    async def __call__(self, texts: Texts) -> Said:
        """Judge.

        Raises:
            Failed: there is no score.
        """
        ...


class StepJudge:
    """A judge that is a prompt step on a model: as in the batch judge and the benchmarks."""

    def __init__(self, step: Any, ask: Ask, spec: JudgeSpec, scale: list[str]) -> None:
        self.step: PromptStep = step
        self.ask, self.template, self.scale = ask, spec.wording, scale

    async def __call__(self, texts: Texts) -> Said:
        row: Row = {
            "task": ABSOLUTE.name,
            "instruction": texts.instruction,
            "context": texts.context,
            "responses": [texts.response],
            "reference": "",
            "rubric": texts.rubric,
            "allowed": self.scale,
            "template": self.template,
        }
        try:
            await self.step.run(row, self.ask)
        except RowFailure as failure:
            raise Failed(failure.reason) from None
        if row["predicted"] is None or row["parse_status"] not in READ:
            raise Failed(row["parse_status"])
        return Said(row["predicted"], row["critique"], row["parse_status"])


class ServiceJudge:
    """A judge behind the judge API."""

    def __init__(self, client: Any, spec: JudgeSpec, scale: list[str]) -> None:
        from serve.client import JudgeError

        assert spec.service is not None
        self.client, self.model, self.error = client, spec.service.model, JudgeError
        self.settings = {"template": spec.wording, "max_tokens": spec.max_tokens, "allowed": scale}

    async def __call__(self, texts: Texts) -> Said:
        optional = {"rubric": texts.rubric or None, "context": texts.context or None, "model": self.model}
        try:
            found = await self.client.absolute(
                instruction=texts.instruction, response=texts.response, **optional, **self.settings
            )
        except self.error as exc:
            raise Failed(str(exc.code)) from None
        result = found.results[0]
        return Said(result.verdict, result.critique, result.parse_status)


@asynccontextmanager
async def started(config: ArenaConfig) -> AsyncIterator[Mapping[str, ArenaJudge]]:
    """All judges of a config, ready; within one event loop.

    Raises:
        UserError: a model cannot be loaded, or a key is not set.
    """
    async with AsyncExitStack() as open_now:
        engines: dict[str, Ask] = {}
        judges: dict[str, ArenaJudge] = {}
        for name, spec in config.judges.items():
            if spec.engine:
                judges[name] = _engine(spec, config.scale, engines)
            elif spec.endpoint:
                judges[name] = await _endpoint(spec, config.scale, open_now)
            elif spec.service:
                judges[name] = await _service(spec, spec.service, config.scale, open_now)
        yield judges


def _engine(spec: JudgeSpec, scale: list[str], engines: dict[str, Ask]) -> ArenaJudge:
    from pipelines.engines.llm.constrained import ConstrainedJudge
    from pipelines.engines.llm.engine import engine_environment, start_engine

    assert spec.engine is not None
    same = spec.engine.model_dump_json()
    if same not in engines:
        say(f"loading {spec.engine.model}")
        os.environ.update(engine_environment(spec.engine))
        engines[same] = start_engine(spec.engine, closing=True)
    return StepJudge(ConstrainedJudge(spec.max_tokens), engines[same], spec, scale)


async def _endpoint(spec: JudgeSpec, scale: list[str], open_now: AsyncExitStack) -> ArenaJudge:
    from pipelines.engines.llm.endpoint import EndpointAsk
    from pipelines.engines.llm.judge import Judge

    assert spec.endpoint is not None
    ask = await open_now.enter_async_context(aclosing(EndpointAsk(spec.endpoint)))
    return StepJudge(Judge(spec.max_tokens), ask, spec, scale)


async def _service(spec: JudgeSpec, service: ServiceConfig, scale: list[str], open_now: AsyncExitStack) -> ArenaJudge:
    from serve.client import AsyncJudge

    key = ""  # and not None, for which the client would take a variable of its own
    if service.api_key_env:
        key = os.environ.get(service.api_key_env, "").strip()
        if not key:
            raise UserError(f"the environment variable {service.api_key_env} is not set", where=service.url)
    client = await open_now.enter_async_context(AsyncJudge(service.url, key))
    return ServiceJudge(client, spec, scale)
