"""A model behind an OpenAI-compatible endpoint: its keys in a config."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator

from pipelines.core.errors import UserError
from pipelines.core.yaml_model import OPERATIONAL, Strict
from pipelines.judging.thoughts import Reasoning

# Capitals only: such variables have them and most keys do not, so a key given by mistake is refused and not shown.
VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


class EndpointConfig(Strict):
    """A model behind an OpenAI-compatible API. The key itself is never part of a config."""

    endpoint: str
    """Base URL of the API, such as https://api.openai.com/v1."""
    model: str = Field(min_length=1)
    """The model's name there."""
    api_key_env: Annotated[str | None, OPERATIONAL] = None
    """Name of the environment variable that holds the key; null sends none."""
    reasoning: Reasoning = "auto"
    """Marks around a thinking model's thoughts, such as `["<think>", "</think>"]`, which are kept apart; `auto` finds
    the common ones, `none` takes all that is written for the answer."""
    concurrency: Annotated[int, OPERATIONAL] = Field(16, ge=1, le=1024)
    """Most requests in progress at once."""
    timeout_s: Annotated[float, OPERATIONAL] = Field(120.0, gt=0)
    """Seconds to wait for each attempt."""
    retries: Annotated[int, OPERATIONAL] = Field(5, ge=0)
    """Further attempts after 408, 409, 429, 5xx, a timeout or a lost connection, with exponential backoff."""

    # These two raise errors of our own: pydantic's would quote the value, which may hold a secret.
    @field_validator("endpoint", mode="before")
    @classmethod
    def _plain_url(cls, value: Any) -> str:
        try:
            parts = urlsplit(value if isinstance(value, str) else "")
            whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # not a port, or not an address
            whole = False
        if not whole:
            raise UserError("endpoint is not a URL", fix="give the base of the API, such as https://host/v1")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise UserError(
                "endpoint has more than host and path",
                fix="a key does not belong there: name an environment variable that holds it in api_key_env",
            )
        return str(value).rstrip("/")

    @field_validator("api_key_env", mode="before")
    @classmethod
    def _name_of_variable(cls, value: Any) -> Any:
        if value is None or (isinstance(value, str) and VARIABLE.fullmatch(value)):
            return value
        raise UserError(
            "api_key_env is not the name of an environment variable",
            fix="give a name in capitals such as OPENAI_API_KEY, never the key itself",
        )

    def __str__(self) -> str:
        return f"{self.model} at {self.endpoint}"

    def key(self) -> str | None:
        """The key, from the environment of this process; None if none is to be sent.

        Raises:
            UserError: the variable is not set, or its value cannot be a key.
        """
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise UserError(
                f"the environment variable {self.api_key_env} is not set",
                where=self.endpoint,
                fix="export it; on a cluster the workers need it too: env_vars of the job's runtime environment",
            )
        if not (key.isascii() and key.isprintable()):
            raise UserError(
                f"the environment variable {self.api_key_env} holds characters no key has", where=self.endpoint
            )
        return key


def read_models(value: Any) -> dict[str, str | EndpointConfig]:
    """Models of a config: a mapping of keys becomes an endpoint, a name stays as it is.

    Raises:
        UserError: one is neither, or an endpoint has an unknown key, lacks one, or has a value of the wrong type.
    """
    if not isinstance(value, dict):
        raise UserError("not a mapping of names to models", where="evaluation.models")
    return {str(name): read_model(one, f"evaluation.models.{name}") for name, one in value.items()}


def read_model(raw: Any, where: str) -> str | EndpointConfig:
    """One model. Messages leave out the value: someone may have written a secret there.

    Args:
        raw: a name, or the keys of an endpoint.
        where: the config key, for messages.

    Raises:
        UserError: it is neither, or an endpoint has an unknown key, lacks one, or has a value of the wrong type.
    """
    if isinstance(raw, str | EndpointConfig):
        return raw
    if not isinstance(raw, dict):
        raise UserError("neither a model's name nor the keys of an endpoint", where=where)
    try:
        return EndpointConfig.model_validate(raw)
    except UserError as mistake:
        raise UserError(mistake.what, where=where, fix=mistake.fix) from None
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        known = f"known here: {', '.join(EndpointConfig.model_fields)}"
        what = {"extra_forbidden": f"unknown key '{key}'", "missing": f"missing key '{key}'"}.get(first["type"])
        raise UserError(what or f"key '{key}': {first['msg']}", where=where, fix=known if what else "") from None
