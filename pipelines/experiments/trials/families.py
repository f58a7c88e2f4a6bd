"""A prompt and the completions that are scored after it: two of a pair, or one for each verdict of a closed set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from pipelines.engines.packed.planning import Item, pair_item, plan_bins
from pipelines.engines.packed.trie import Places


@dataclass(frozen=True)
class Family:
    """Token ids of a prompt and of what may follow it."""

    prompt: Sequence[int]
    completions: Sequence[Sequence[int]]

    @property
    def tokens(self) -> int:
        """Of the prompt once, and of all completions."""
        return len(self.prompt) + sum(map(len, self.completions))

    @property
    def item(self) -> Item:
        """As the planner of bins wants it; all completions but the first count as one."""
        first, *rest = self.completions
        return pair_item(self.prompt, first, [token for one in rest for token in one])

    def pairs(self) -> list[tuple[int, int]]:
        """The completions two by two, as packing wants them; the last may stand twice."""
        count = len(self.completions)
        return [(i, min(i + 1, count - 1)) for i in range(0, count, 2)]

    def rows(self) -> list[dict[str, Sequence[int]]]:
        """The family as rows of pairs."""
        return [
            {"prompt_ids": self.prompt, "chosen_ids": self.completions[i], "rejected_ids": self.completions[j]}
            for i, j in self.pairs()
        ]


@dataclass(frozen=True)
class Shelf:
    """Where the tokens of many families stand in one long table: each prompt, and after it each completion.

    Attributes:
        families: in the order of the table.
        starts: where each begins.
    """

    families: Sequence[Family]
    starts: Sequence[int]

    @classmethod
    def of(cls, families: Sequence[Family]) -> Shelf:
        """One after the other."""
        return cls(families, [0, *accumulate(family.tokens for family in families)][: len(families)])

    def path(self, family: int, completion: int) -> Places:
        """Places of the tokens of a prompt with one of its completions."""
        one, start = self.families[family], self.starts[family]
        before = start + len(one.prompt) + sum(len(c) for c in one.completions[:completion])
        own = np.arange(before, before + len(one.completions[completion]))
        return np.concatenate([np.arange(start, start + len(one.prompt)), own])


def bins(families: Sequence[Family], budget: int) -> list[list[int]]:
    """Which families share a forward pass of at most `budget` distinct tokens."""
    return [chosen for chosen in plan_bins([family.item for family in families], 1, budget)[0] if chosen]
