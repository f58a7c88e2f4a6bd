"""Settings of the judge service: one YAML file, the same under `vllm serve` and under Ray Serve."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from pipelines.core.yaml_model import Strict


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
