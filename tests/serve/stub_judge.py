"""A stub of the engine for unit tests: it answers at once, by hand-made probabilities. The real one is tested in
tests/integration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
from fastapi import FastAPI

from pipelines.engines.llm.ask import Answer
from serve import errors, graders, routes
from serve.service import JudgeService, ModelFacts
from serve.settings import ServiceSettings
from serve.watch import Watch


class StubAsk:
    """STUB of an `Ask`: answers with verdict, probabilities, text and whether the verdict line was put there.

    Args:
        shares: from prompt and allowed verdicts, the probability of each verdict; by default the first is likeliest.
        forced: the verdict line was put there.
        fails: raised in place of an answer.

    Attributes:
        hold: while it is not set, no answer is finished.
        running, most, started, cancelled: numbers of answers.
    """

    def __init__(
        self,
        shares: Callable[[str, list[str]], dict[str, float]] | None = None,
        *,
        forced: bool = False,
        fails: Callable[[str], Exception | None] = lambda prompt: None,
    ) -> None:
        self.shares, self.forced, self.fails = shares or first_is_likeliest, forced, fails
        self.hold = asyncio.Event()
        self.hold.set()
        self.running = self.most = self.started = self.cancelled = 0
        self.prompts: list[str] = []
        self.settings: list[dict[str, Any]] = []
        self.healthy = True

    async def __call__(self, prompt: str, **settings: Any) -> Answer:
        self.prompts.append(prompt)
        self.settings.append(settings)
        self.started += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if settings.get("on_text"):
                settings["on_text"]("**Reasoning:** Well")
                settings["on_text"](" said.\u2028Good.")
            await self.hold.wait()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if exc := self.fails(prompt):
            raise exc
        endings = settings["closing"].endings
        shares = self.shares(prompt, list(endings))
        verdict = max(shares, key=shares.__getitem__)
        critique = "**Reasoning:** Well said.\u2028Good.\n\n" if settings["max_tokens"] else ""
        return Answer(
            text=f"{critique}{endings[verdict]}",
            prompt_tokens=100,
            output_tokens=10,
            seconds=0.5,
            cached_tokens=60,
            verdict=verdict,
            verdict_probs=shares,
            forced=self.forced,
        )

    async def check_health(self) -> None:
        """Raise an exception if the engine is dead."""
        if not self.healthy:
            raise RuntimeError("dead")


def first_is_likeliest(prompt: str, labels: list[str]) -> dict[str, float]:
    """0.7 for the first verdict, the rest shared."""
    return {label: 0.7 if place == 0 else 0.3 / (len(labels) - 1) for place, label in enumerate(labels)}


def app_of(ask: StubAsk, watch: Watch | None = None, **settings: Any) -> FastAPI:
    """The routes in an app of their own."""
    app = FastAPI()
    app.include_router(routes.router)
    app.include_router(graders.router)
    errors.install(app)
    app.state.judge = JudgeService(ask, ServiceSettings(**settings), ModelFacts("judge", "m1"), watch or Watch())
    return app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    """Calls the app without a network; an exception of the app would be raised here."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://judge")


PAIR = {"instruction": "Name the capital.", "responses": ["Oslo", "Bergen"]}
ONE = {"instruction": "Name the capital.", "response": "Oslo"}
