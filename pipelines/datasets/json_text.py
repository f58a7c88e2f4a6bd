"""JSON as Python's own reader takes it, but a key that an object has twice is noticed: which one counts is a guess."""

from __future__ import annotations

import json
from typing import Any


class Decoder(json.JSONDecoder):
    """A decoder that notes a key which an object has twice.

    Attributes:
        twice: the first such key since this was last set to None.
    """

    def __init__(self) -> None:
        self.twice: str | None = None
        super().__init__(object_pairs_hook=self._object)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs) and self.twice is None:
            names = [name for name, _ in pairs]
            self.twice = next(name for place, name in enumerate(names) if name in names[:place])
        return found


def parsed(text: str | bytes) -> tuple[Any, str | None]:
    """The value of a JSON text, and a key that an object in it has twice.

    Raises:
        TypeError, ValueError: it is no JSON.
    """
    decoder = Decoder()
    if isinstance(text, str | bytes):
        return decoder.decode(text if isinstance(text, str) else text.decode()), decoder.twice
    raise TypeError(f"{'null' if text is None else type(text).__name__} where a JSON text is needed")
