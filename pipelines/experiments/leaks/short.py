"""Benchmark texts with fewer words than a run has, inside longer texts: found only as a whole."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.curation.decontaminate import BOILERPLATE, run_keys
from pipelines.curation.words import words_of

LEAST = 5  # words: `Hi, how are you?` and `explain like im 5` are prompts of benchmarks, and in anybody's texts


@dataclass(frozen=True)
class ShortTexts:
    """The short texts by how many words they have.

    Attributes:
        known: words of a text -> key of all its words -> numbers of the texts.
    """

    known: dict[int, dict[int, list[int]]]

    def within(self, words: list[str]) -> Iterator[tuple[int, str]]:
        """Number and words of the short texts that are inside a longer one."""
        for size, numbers in self.known.items():
            if len(words) > size:
                keys = run_keys(words, size)
                for place in np.flatnonzero(np.isin(keys, np.fromiter(numbers, np.int64, len(numbers)))).tolist():
                    for number in numbers[int(keys[place])]:
                        yield number, " ".join(words[place : place + size])


def short_texts(texts: Sequence[str], ngram: int) -> ShortTexts:
    """The texts of at least `LEAST` and less than `ngram` words, without those that many texts have within them.

    Args:
        texts: of the benchmarks, by their numbers.
        ngram: words of a run, from which on runs are looked for.
    """
    every = [words_of(text) for text in texts]
    known: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, words in enumerate(every):
        if LEAST <= len(words) < ngram:
            known[len(words)][hash(tuple(words))].append(number)
    kept: dict[int, dict[int, list[int]]] = {}
    for size in sorted(known):
        own = np.fromiter(known[size], np.int64, len(known[size]))
        # A prompt of one row may be everybody's phrase.
        inside: Counter[int] = Counter()
        for words in every:
            inside.update(np.intersect1d(run_keys(words, size), own).tolist())
        kept[size] = {key: found for key, found in known[size].items() if inside[key] <= BOILERPLATE}
    return ShortTexts(kept)
