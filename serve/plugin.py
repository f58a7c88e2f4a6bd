"""The judge as an endpoint plugin of vLLM: its routes beside vLLM's own, on the engine that serves them."""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from typing import TYPE_CHECKING, Any

from pipelines.core.progress import say
from serve.settings import load_settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.datastructures import State
    from vllm.engine.protocol import EngineClient

NAME = "openselene_judge"
GATE = "serve.access.gate.Gate"


class JudgePlugin:
    """Registered under `vllm.endpoint_plugins`; `VLLM_PLUGINS=openselene_judge` turns it on."""

    name = NAME
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Add the routes."""
        from serve import graders, page, routes
        from serve.documentation import describe

        # vLLM's own list names the folder that a model lies in.
        app.router.routes[:] = [one for one in app.router.routes if getattr(one, "path", None) != "/v1/models"]
        for router in (routes.router, graders.router, page.router):
            app.include_router(router)
        describe(app)

    async def init_state(self, engine_client: EngineClient | None, state: State, args: Namespace) -> None:
        """Make the judge around the engine, and judge once so that the first caller need not wait."""
        from transformers import AutoTokenizer

        from pipelines.engines.llm.engine import EngineAsk
        from pipelines.engines.models import identity
        from pipelines.judging.chat_template import control_tokens
        from pipelines.judging.thoughts import thinking_of
        from serve.service import JudgeService, ModelFacts
        from serve.watch import here

        assert engine_client is not None  # the plugin asks for the task `generate`
        settings = load_settings()
        tokenizer = AutoTokenizer.from_pretrained(args.model)
        digest = await asyncio.to_thread(identity, args.model)
        room = engine_client.vllm_config.model_config.max_model_len
        ask: Any = EngineAsk(engine_client, tokenizer, room, thinking_of(settings.reasoning, tokenizer))
        name = (args.served_model_name or [args.model])[0]
        state.watch, state.control_tokens = here(), frozenset(control_tokens(tokenizer).values())
        state.adapters, state.started = [one.name for one in args.lora_modules or ()], int(time.time())
        judge = JudgeService(ask, settings, ModelFacts(name, digest), state.watch)
        await judge.warm_up()
        state.judge = judge  # from here on the server is ready
        who = f"keys of {settings.keys}" if settings.keys else "without keys, so to this machine only"
        say(f"judge '{name}' answers: {who}")
