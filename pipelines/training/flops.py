"""The work of training on pairs: the minimum of each pair, and what mainstream trainers do."""

from __future__ import annotations

from collections.abc import Iterable

from pipelines.engines.packed.work import Work, pair_work, stretch


def needed(prompt: int, chosen: int, rejected: int) -> Work:
    """Every token of a pair once, each attending to what it may see: the minimum for a pair that shares with no other.

    That the completions begin alike is not counted.
    """
    return stretch(0, prompt) + pair_work(prompt, chosen, rejected)


def stock(lengths: Iterable[tuple[int, int, int]]) -> Work:
    """A micro-batch of pairs as the mainstream trainers run it, as a profiler counts it.

    Two sequences a pair, each with the prompt, all padded to the longest; the head projects every position.

    Args:
        lengths: tokens of prompt, chosen and rejected of each pair.
    """
    pairs = list(lengths)
    longest = max(prompt + max(chosen, rejected) for prompt, chosen, rejected in pairs)
    n = 2 * len(pairs)
    return Work(n * longest, n * longest, n * longest * longest)
