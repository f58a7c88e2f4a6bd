"""The words of a text, as near duplicates and decontamination compare them."""

from __future__ import annotations

import regex  # type: ignore[import-untyped]

# Symbols and brackets are words of their own, and a sign belongs to its number: `( [` is no `{ <`, nor `-5` the same as
# `5`. The marks of a sentence say nothing, nor does its case.
_WORD = regex.compile(r"""(?:(?<!\w)[-−])?\w+|[^\w\s.,;:!?'"`‘’“”„«»…‐‑‒–—―-]""")


def words_of(text: str) -> list[str]:
    """The words of a text in order, without case."""
    found: list[str] = _WORD.findall(text.casefold())
    return found
