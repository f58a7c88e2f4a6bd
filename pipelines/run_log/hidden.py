"""Values that must not be written down: what is named like a secret, and what the environment holds as one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
SECRET = re.compile(r"(?:^|_)(?:token|secret|password|passwd|credentials?|key|authorization)$", re.IGNORECASE)
LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
SHORTEST = 8  # characters: a shorter value of the environment may well be a word


def hidden(value: Any, secrets: list[str] | None = None) -> Any:
    """The value, in JSON's types, without its secrets.

    A config of ours has no key that takes one: this is for what a user writes where anything may stand, such as
    `engine_args`, and for what an exception quotes.

    Args:
        value: of any depth.
        secrets: texts that are replaced wherever they stand; None takes those of the environment.
    """
    found = secrets_of(os.environ) if secrets is None else secrets
    if isinstance(value, dict):
        return {
            key: HIDDEN if isinstance(inner, str) and SECRET.search(str(key)) else hidden(inner, found)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [hidden(inner, found) for inner in value]
    if not isinstance(value, str):
        return value
    for secret in found:
        value = value.replace(secret, HIDDEN)
    return LOGIN.sub(f"{HIDDEN}@", value)


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The values of variables that are named like secrets, the longest first."""
    found = {text for name, text in environment.items() if SECRET.search(name) and len(text) >= SHORTEST}
    return sorted(found, key=len, reverse=True)
