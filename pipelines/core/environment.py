"""`${NAME}` in a config stands for an environment variable."""

from __future__ import annotations

import os
import re

from pipelines.core.errors import UserError

VARIABLE = re.compile(r"\$\{(\w+)\}")


def filled(value: object) -> object:
    """The value with the variables that are set; those that are not stay as they are."""
    if not isinstance(value, str):
        return value
    return VARIABLE.sub(lambda found: os.environ.get(found[1]) or found[0], value)


def check_filled(value: object, key: str) -> None:
    """Check that no variable is missing.

    Raises:
        UserError: one is.
    """
    for name in VARIABLE.findall(str(value)):
        fix = f"such as export {name}=s3://bucket/folder, or give {key}=PLACE"
        raise UserError(f"the environment variable {name} is not set", where=key, fix=fix)
