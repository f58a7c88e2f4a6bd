"""Settings of the judge service: one YAML file, the same under `vllm serve` and under Ray Serve."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field, model_validator

from pipelines.config import apply_override
from pipelines.core.yaml_model import Strict, parse_model, read_yaml
from pipelines.engines.config import EngineConfig
from pipelines.judging.thoughts import Reasoning

VARIABLE = "OPENSELENE_SERVICE"
PACKAGED = Path(__file__).with_name("config.yaml")
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class KeyLimits(Strict):
    """What one key may ask for; a key of its own limits in the key file takes those."""

    requests_per_minute: int = Field(600, ge=1)
    """Moving window. A line of a batch counts as one request."""
    concurrent: int = Field(32, ge=1)
    """Requests under way at once."""


class ServiceSettings(Strict):
    """What the service allows, beside the engine's settings."""

    template: str = "original"
    """Template of requests that name none: `original` and `compact` mean `TASK_original` and `TASK_compact`."""
    max_tokens: int = Field(512, ge=1)
    """Most tokens of a critique that a request may ask for, and what it gets if it asks for nothing."""
    keys: Path | None = None
    """File of hashed API keys (`openselene keys`), read again when it changes. Null: no key is needed, and the service
    answers on loopback only."""
    limits: KeyLimits = KeyLimits()
    rate_storage: str = "async+memory://"
    """Where the moving windows are: in memory, so that each replica counts by itself, or `async+redis://HOST:PORT` for
    one count over all replicas (needs `pip install 'limits[async-redis]'`). Concurrency is counted by each replica."""
    chat_tokens: int = Field(4096, ge=1)
    """Most tokens that a chat completion may ask for; one that asks for nothing may fill the model's context."""
    queue: int = Field(64, ge=1)
    """Judgments that wait or are computed at once, in one replica; more are refused with 503 and Retry-After."""
    body_bytes: int = Field(1_000_000, ge=1000)
    """Most bytes of a request; 413 above."""
    batch_bytes: int = Field(64_000_000, ge=1000)
    """Most bytes of a batch."""
    batch_lines: int = Field(10_000, ge=1)
    """Most lines of a batch."""
    field_characters: int = Field(100_000, ge=100)
    """Most characters of one text."""
    timeout: float = Field(120, gt=0)
    """Seconds until a request is given up with 504, its engine work cancelled."""
    drain: float = Field(60, gt=0)
    """Seconds that requests under way may take after SIGTERM."""


class PluginSettings(ServiceSettings):
    """What the server's process reads: the service's settings, and of the engine what vLLM does not tell."""

    reasoning: Reasoning = "auto"
    """`engine.reasoning`."""


class ServerConfig(Strict):
    """What a server is made of: the `args` of serve/config.yaml, and the file of `openselene serve`."""

    engine: EngineConfig = EngineConfig()
    service: ServiceSettings = ServiceSettings()
    adapters: dict[str, str] = Field(default_factory=dict)
    """Further judges by model id: LoRA adapters of the engine's model, as folders."""
    host: str = "127.0.0.1"
    """Address of `openselene serve`; others than loopback need keys."""
    port: int = Field(8000, ge=1, le=65535)
    """Port of `openselene serve`; Ray Serve has its own `http_options`."""
    name: str = Field("judge", pattern=r"^[A-Za-z0-9][\w.-]{0,63}$")
    """Model id of the judge in requests and answers."""

    @model_validator(mode="after")
    def _keys_or_loopback(self) -> ServerConfig:
        if self.service.keys is None and self.host not in LOOPBACK:
            raise ValueError(f"host {self.host} needs service.keys: a file made by `openselene keys add`")
        return self


def load_server(path: Path, overrides: Sequence[str] = ()) -> ServerConfig:
    """The config of a server from a file of its keys, or from one for `serve deploy`.

    Raises:
        UserError: the file is missing, or a key or value is not one of the config's.
    """
    raw = read_yaml(path)
    if isinstance(raw, dict) and "applications" in raw:
        raw = next((one["args"] for one in raw["applications"] if "args" in one), {})
    for override in overrides:
        apply_override(raw, override)
    return parse_model(ServerConfig, raw, where=str(path))


def load_settings() -> PluginSettings:
    """The settings of this process: those that the variable OPENSELENE_SERVICE names (a YAML file) or holds (JSON).

    Raises:
        UserError: the file is missing, or a key or value is not one of the service's.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return PluginSettings()
    raw, where = (json.loads(given), VARIABLE) if given.startswith("{") else (read_yaml(Path(given)), given)
    return parse_model(PluginSettings, raw, where=where)
