"""A trial: which rows are trained on, in which order, and with which settings; known by its content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.core.determinism import digest, unit


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


def take(rows: Sequence[str], count: int, seed: int) -> list[str]:
    """`count` of some rows, those of smallest hash: the same for every experiment that takes them from these rows."""
    return sorted(rows, key=lambda row: unit(seed, "rows of a trial", row))[:count]
