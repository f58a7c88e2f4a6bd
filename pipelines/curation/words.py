"""The words of a text, as near duplicates and decontamination compare them."""

from __future__ import annotations

import unicodedata

import regex  # type: ignore[import-untyped]

# Symbols and brackets are words of their own, and a sign belongs to its number: `( [` is no `{ <`, nor `-5` the same as
# `5`. The marks of a sentence say nothing, nor does its case.
# Scripts that write no spaces have a word a letter: a sentence of them would be one word, alike to its equal only.
_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(
    rf"""(?:(?<!\w)[-−])?(?:[{_UNSPACED}]\p{{M}}*|[\w--[{_UNSPACED}]]+)|[^\w\s.,;:!?'"`‘’“”„«»…‐‑‒–—―。、，！？：；-]""",
    regex.V1,
)
# Zero-width characters, soft hyphens, fillers: two texts that differ in them alone look the same.
_UNSEEN = regex.compile(r"[\p{Cf}\p{Default_Ignorable_Code_Point}]+")


def seen(text: str) -> str:
    """What a reader sees of a text: without characters that show nothing, nor space around it."""
    return (text if text.isascii() else _UNSEEN.sub("", text)).strip()


def words_of(text: str) -> list[str]:
    """The words of a text in order, without case, and the same however its letters are encoded."""
    if not text.isascii():
        text = _UNSEEN.sub("", unicodedata.normalize("NFKC", text))
    found: list[str] = _WORD.findall(text.casefold())
    return found
