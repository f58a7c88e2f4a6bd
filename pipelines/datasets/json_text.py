"""JSON as Python's own reader takes it, but a key that an object has twice is noticed: which one counts is a guess."""

from __future__ import annotations

import json
import re
from typing import Any

DENSE = 100  # characters for each object; where there are fewer, the pairs cost as much as all the rest
MISS = 4  # how many characters read quickly pay for one that had to be read again
SPACED = re.compile(r'"[ \t\n\r]+:')


class Decoder(json.JSONDecoder):
    """A decoder that notes a key which an object has twice.

    Python hands over the pairs of an object only as a list of tuples, which doubles the time of a text with many small
    objects. After such a text the next one is read without them, and its keys are counted: as many as the text seems to
    have, and none was there twice; fewer, and it is read again with the pairs.

    Attributes:
        twice: the first such key since this was last set to None.
    """

    def __init__(self) -> None:
        self.twice: str | None = None
        self._dense = False  # the last text, and reading the next one quickly has paid so far
        self._saved = 0
        self._objects = self._keys = 0  # of the text that is being read
        self._quick = json.JSONDecoder(object_hook=self._counted)
        super().__init__(object_pairs_hook=self._object)

    def raw_decode(self, s: str, idx: int = 0) -> tuple[Any, int]:
        """The value that begins at a place of a text, and the place behind it.

        Raises:
            json.JSONDecodeError: no value begins there.
        """
        self._objects = self._keys = 0
        quick = self._dense
        value, end = self._quick.raw_decode(s, idx) if quick else super().raw_decode(s, idx)
        self._dense = self._objects * DENSE > end - idx and self._saved >= 0
        if quick and not _has_no_more_keys(s, idx, end, self._keys):
            self._saved -= MISS * (end - idx)
            return super().raw_decode(s, idx)
        self._saved += end - idx if quick else 0
        return value, end

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._objects += 1
        found = dict(pairs)
        if len(found) < len(pairs) and self.twice is None:
            names = [name for name, _ in pairs]
            self.twice = next(name for place, name in enumerate(names) if name in names[:place])
        return found

    def _counted(self, found: dict[str, Any]) -> dict[str, Any]:
        self._objects += 1
        self._keys += len(found)
        return found


def _has_no_more_keys(text: str, start: int, end: int, keys: int) -> bool:
    """Whether the objects of a JSON text were written with so many keys, which is the least that they can have.

    Each has a colon behind it, and most often no white space before that; texts within may have more of either.
    """
    if text.count(":", start, end) == keys:
        return True
    return text.count('":', start, end) == keys and SPACED.search(text, start, end) is None


def parsed(text: str | bytes) -> tuple[Any, str | None]:
    """The value of a JSON text, and a key that an object in it has twice.

    Raises:
        TypeError, ValueError: it is no JSON.
    """
    decoder = Decoder()
    if isinstance(text, str | bytes):
        return decoder.decode(text if isinstance(text, str) else text.decode()), decoder.twice
    raise TypeError(f"{'null' if text is None else type(text).__name__} where a JSON text is needed")
