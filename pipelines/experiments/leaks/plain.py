"""A record in JSON's types, as the set without leaks has it: nothing in it is invented."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def decoded(value: Any) -> Any:
    """A value with its bytes as the UTF-8 that they are.

    Raises:
        UnicodeDecodeError: some are not.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode()
    if isinstance(value, Mapping):
        return {decoded(key): decoded(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [decoded(one) for one in value]
    return value


def plain(value: Any) -> Any:
    """A value in JSON's types: what JSON lacks, such as a date, as its text, and no number as null.

    Raises:
        ValueError: a number is infinite, as JSON's own are once they exceed what a float holds.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        raise ValueError("a number beyond what JSON can be written with")
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
