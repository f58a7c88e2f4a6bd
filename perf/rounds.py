"""Compare two or more ways in turn, several times: one round tells more of the machine's mood than of the code."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
LEAST = 3


def add_rounds(parser: argparse.ArgumentParser) -> None:
    """Add `--rounds`."""

    def count(text: str) -> int:
        if (number := int(text)) < LEAST:
            raise argparse.ArgumentTypeError(f"at least {LEAST}, for a median with its spread")
        return number

    parser.add_argument("--rounds", type=count, default=LEAST, help="of all ways, in turn; the median counts")


def interleaved(ways: Mapping[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """What each way gives in each round; the order turns round (A B, B A, A B), so that no way is always the later.

    The first round is in the order of `ways`.
    """
    found: dict[str, list[T]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(ways[name]())
    return found


def compared(ours: Sequence[float], baseline: Sequence[float], *, less_is_better: bool = False) -> dict[str, Any]:
    """Medians, and the ratio of each round: its median, least and greatest; above 1 ours is better.

    Args:
        ours: of each round.
        baseline: of the same rounds.
        less_is_better: they are seconds, not rates.
    """
    pairs = list(zip(ours, baseline, strict=True))
    ratios = [theirs / mine if less_is_better else mine / theirs for mine, theirs in pairs]
    return {
        "ours": statistics.median(ours),
        "baseline": statistics.median(baseline),
        "ratio": statistics.median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "rounds": [list(ours), list(baseline)],
    }
