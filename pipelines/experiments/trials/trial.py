"""A trial: which rows are trained on, in which order, and with which settings; known by its content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pipelines.core.determinism import digest, unit

DIVERGED = "diverged"  # key of the marker of a trial that has no verdicts: what was seen


@dataclass(frozen=True)
class Trial:
    """One small training. Two experiments that ask for the same one share its result.

    Attributes:
        rows: ids of the pairs, sorted; none is the base model.
        seed: of the order of the pairs.
        changes: keys of `train` and their values, where they are not the config's; sorted.
    """

    rows: tuple[str, ...]
    seed: int = 0
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """Short, and different for different trials."""
        return digest(self.rows, self.seed, self.changes, size=8)


BASE = Trial(())


def trial(rows: Sequence[str], seed: int, changes: Mapping[str, Any] | None = None) -> Trial:
    """The trial of some rows, in whatever order they come."""
    return Trial(tuple(sorted(rows)), seed, tuple(sorted((changes or {}).items())))


def draw(rows: Sequence[str], count: int, seeds: Sequence[int]) -> list[list[str]]:
    """`count` of some rows for each seed, no row twice while they suffice; the same for every experiment on these rows.

    They stand in the order of a hash, and each seed takes the next ones; at the end it goes on from the beginning. More
    seeds leave the rows of the first ones as they are.
    """
    order = sorted(rows, key=lambda row: unit(seeds[0], "rows of a trial", row))
    return [[order[(number * count + i) % len(order)] for i in range(count)] for number in range(len(seeds))]


def shared(trials: Sequence[Trial]) -> float:
    """The share of its rows that a trial has in common with another one, mean over all two of them."""
    each = [
        len({*one.rows} & {*other.rows}) / min(len(one.rows), len(other.rows)) for one, other in combinations(trials, 2)
    ]
    return sum(each) / len(each) if each else 0.0
