"""How alike two texts are, by the measures of OpenAI's `text_similarity` that need neither a model nor a word list.

`fuzzy_match` is the indel similarity (rapidfuzz's `fuzz.ratio` / 100), `rouge_*` the F1 of the rouge-score package
without stemming.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence

MOST = 20_000  # characters of one text: the longest common subsequence takes time by the product of both lengths
_WORD = re.compile(r"[a-z0-9]+")


def similarity(metric: str, text: str, reference: str) -> float:
    """From 0 to 1.

    Args:
        metric: `fuzzy_match`, `rouge_l`, or `rouge_1` to `rouge_5`.
        text: what is graded.
        reference: what it is compared with.
    """
    if metric == "fuzzy_match":
        whole = len(text) + len(reference)
        return 2 * longest_common(text, reference) / whole if whole else 1.0
    words, others = _WORD.findall(text.lower()), _WORD.findall(reference.lower())
    if metric == "rouge_l":
        return _f1(longest_common(words, others), len(words), len(others))
    size = int(metric.removeprefix("rouge_"))
    grams, wanted = _grams(words, size), _grams(others, size)
    return _f1((grams & wanted).total(), grams.total(), wanted.total())


def longest_common(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Length of the longest common subsequence: Hyyrö's bit-parallel way, a row of the table as one integer."""
    places: dict[Hashable, int] = {}
    for place, one in enumerate(first):
        places[one] = places.get(one, 0) | 1 << place
    every = (1 << len(first)) - 1
    row = every
    for one in second:
        met = row & places.get(one, 0)
        row = ((row + met) | (row - met)) & every
    return len(first) - row.bit_count()


def _grams(words: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[place : place + size]) for place in range(len(words) - size + 1))


def _f1(shared: int, found: int, wanted: int) -> float:
    return 2 * shared / (found + wanted) if shared else 0.0
