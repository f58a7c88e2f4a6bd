"""The judge on Ray Serve: `serve run serve.app:app`, or `serve deploy serve/config.yaml`.

A replica is one vLLM engine and vLLM's own app around it, with the judge as its plugin and the gate in front: the same
code that `openselene serve` runs without Ray.
"""

from __future__ import annotations

import asyncio
import os
import types
from typing import Any

from ray import serve
from ray.serve.config import BackpressureConfig, RequestRouterConfig

from serve.access.peers import behind_haproxy
from serve.launch import server_arguments, server_environment
from serve.room import RETRY_AFTER
from serve.settings import ServerConfig

# Requests with one `x-session-id` go to one replica, as long as there is room: its cache holds what they share.
ROUTER = RequestRouterConfig(request_router_class="ray.serve.experimental.consistent_hash_router.ConsistentHashRouter")


class JudgeServer:
    """One replica.

    Args:
        args: keys of ServerConfig.
    """

    def __init__(self, args: dict[str, Any]) -> None:
        self.config = ServerConfig.model_validate(args)
        # Before vLLM is imported, which reads some of them then.
        os.environ.update(server_environment(self.config))
        from vllm import AsyncEngineArgs, AsyncLLMEngine
        from vllm.v1.metrics.ray_wrappers import RayPrometheusStatLogger

        self.args = server_arguments(self.config)
        # vLLM's own figures then stand on Ray's port of metrics, beside the judge's.
        self.engine = AsyncLLMEngine.from_engine_args(
            AsyncEngineArgs.from_cli_args(self.args), stat_loggers=[RayPrometheusStatLogger]
        )

    async def __serve_build_asgi_app__(self) -> Any:
        """vLLM's own app; Ray Serve asks for it once the replica is there."""
        # Not private, without a promise of stability (vLLM 0.29): this is what `vllm serve` itself calls.
        from vllm.entrypoints.launchers.api_server.app_state import init_app_state
        from vllm.entrypoints.launchers.app import build_app

        tasks = await self.engine.get_supported_tasks()
        app = build_app(self.args, tasks, self.engine.model_config)
        await init_app_state(self.engine, app.state, self.args, tasks)
        app.state.server = types.SimpleNamespace()  # vLLM's handler of dead engines reads it
        return app

    async def check_health(self) -> None:
        """Called by Ray Serve, which replaces a replica whose engine is dead."""
        await self.engine.check_health()

    async def __del__(self) -> None:
        """Called by Ray Serve when all requests are answered."""
        await asyncio.to_thread(self.engine.shutdown)


def deployment(args: dict[str, Any]) -> serve.Deployment:
    """The deployment that suits a config; its replicas are made of the same `args`."""
    config = ServerConfig.model_validate(args)
    gpus = config.engine.num_gpus
    # HAProxy chooses the replica by itself, and Ray Serve (2.60) refuses a router of ours then.
    routed = {} if behind_haproxy() else {"request_router_config": ROUTER}
    return serve.deployment(
        serve.ingress()(JudgeServer),
        name="JudgeServer",
        ray_actor_options={"num_cpus": config.engine.num_cpus * max(gpus, 1), "num_gpus": gpus}
        | config.engine.placement.options(),
        max_ongoing_requests=config.service.queue,
        max_queued_requests=config.service.queue,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=RETRY_AFTER),
        graceful_shutdown_timeout_s=config.service.drain,
        health_check_period_s=5,
        **routed,
    )


def build(args: dict[str, Any]) -> serve.Application:
    """The application from the `args` of serve/config.yaml."""
    app: serve.Application = deployment(args).bind(args)
    return app


# `serve run serve.app:app`: the demo's judge, or the model that OPENSELENE_MODEL names.
app = build(
    {
        "engine": {"model": os.environ.get("OPENSELENE_MODEL", "out/local/model"), "max_model_len": 1024},
        "service": {"template": os.environ.get("OPENSELENE_TEMPLATE", "compact"), "max_tokens": 80},
    }
)
