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
    from vllm.lora.request import LoRARequest

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

        from pipelines.core.storage import content_digest, place
        from pipelines.engines.llm.engine import EngineAsk
        from pipelines.engines.models import identity
        from pipelines.judging.chat_template import control_tokens
        from pipelines.judging.thoughts import thinking_of
        from serve.service import JudgeService, Judging, ModelFacts
        from serve.watch import here

        assert engine_client is not None  # the plugin asks for the task `generate`
        settings = load_settings()
        tokenizer = AutoTokenizer.from_pretrained(args.model)
        digest = await asyncio.to_thread(identity, args.model)
        room = engine_client.vllm_config.model_config.max_model_len
        thinking = thinking_of(settings.reasoning, tokenizer)

        def judging(name: str, digest: str, adapter: LoRARequest | None = None) -> Judging:
            ask: Any = EngineAsk(engine_client, tokenizer, room, thinking, adapter)
            return Judging(ask, ModelFacts(name, digest))

        name = (args.served_model_name or [args.model])[0]
        model = judging(name, digest)
        adapters = [
            judging(one.lora_name, f"{digest}+{await asyncio.to_thread(content_digest, place(one.lora_path))}", one)
            for one in state.openai_serving_models.lora_requests.values()
        ]
        state.watch, state.control_tokens = here(), frozenset(control_tokens(tokenizer).values())
        state.started = int(time.time())
        judge = JudgeService(model.ask, settings, model.facts, state.watch, adapters)
        await judge.warm_up()
        state.room = judge.room  # chats pass by the judge: the gate counts them
        state.judge = judge  # from here on the server is ready
        who = f"keys of {settings.keys}" if settings.keys else "without keys, so to this machine only"
        say(f"judge '{name}' answers: {who}")
