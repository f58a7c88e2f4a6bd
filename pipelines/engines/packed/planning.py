"""Which prompts share a forward pass: bins of few distinct tokens, alike in weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.engines.packed.trie import Tokens, common, key
from pipelines.engines.packed.work import Work, pair_work, stretch

HALVINGS = 30  # of the range in which the lightest possible heaviest bin lies


@dataclass(frozen=True)
class Item:
    """A prompt, and the work that its completions add to it."""

    prompt: Tokens
    rest: Work


def pair_item(prompt: Tokens, chosen: Tokens, rejected: Tokens) -> Item:
    """A pair, as the planner wants it."""
    return Item(prompt, pair_work(len(prompt), len(chosen), len(rejected), common(chosen, rejected)))


@dataclass(frozen=True)
class Place:
    """An item in the order of prompts: its tokens and cost alone, and what of both its neighbour before it saves."""

    item: int
    tokens: float
    cost: float
    saved_tokens: float
    saved: float


def tokens_of(work: Work) -> float:
    """The cost of work for a model whose shape is not known."""
    return work.tokens


def plan_bins(
    items: Sequence[Item], workers: int, budget: int, cost: Callable[[Work], float] = tokens_of
) -> list[list[list[int]]]:
    """Share items among workers, in bins that differ little in cost.

    The items are put in the order of their prompts, where those that begin alike are neighbours, and the order is cut:
    within a bin an item costs what its prompt does not have in common with the one before it. There are as few bins as
    the budget allows; of all such cuts this is one whose heaviest bin is lightest. Every worker gets the same number of
    bins: collective operations of one bin meet those of another.

    What completions of different items have in common is not foreseen, so a bin may have fewer tokens than planned.

    Args:
        items: what is shared out.
        workers: ranks.
        budget: distinct tokens of a bin; a longer item is a bin of its own.
        cost: of some work, linear in it.

    Returns:
        For each worker its bins, each a list of indices into `items`; every index once. Bins may be empty.
    """
    line = in_order(items, cost)
    limit = max([budget, *(place.tokens for place in line)])
    light, heavy = max((place.cost for place in line), default=0.0), sum(place.cost for place in line)
    best = cut(line, limit, heavy)
    count = max(1, -(-len(best) // workers)) * workers
    for _ in range(HALVINGS if count > 1 else 0):
        middle = (light + heavy) / 2
        if len(found := cut(line, limit, middle)) <= count:
            best, heavy = found, middle
        else:
            light = middle
    weighed = [(sum(p.cost for p in part) - sum(p.saved for p in part[1:]), [p.item for p in part]) for part in best]
    weighed += [(0.0, [])] * (count - len(best))
    weighed.sort(key=lambda bin: -bin[0])
    # Dealt out by weight, so that the bins that meet in one forward pass weigh the same.
    return [[chosen for _, chosen in weighed[worker::workers]] for worker in range(workers)]


def in_order(items: Sequence[Item], cost: Callable[[Work], float]) -> list[Place]:
    """The items in the order of their prompts, each with what it costs."""
    keys = [key(item.prompt) for item in items]
    line: list[Place] = []
    before: Tokens = ()
    for i in sorted(range(len(items)), key=lambda i: keys[i]):
        prompt, rest = items[i].prompt, items[i].rest
        shared = common(before, prompt)
        alone = cost(stretch(0, len(prompt)) + rest)
        line.append(Place(i, len(prompt) + rest.tokens, alone, shared, cost(stretch(0, shared))))
        before = prompt
    return line


def cut(line: Sequence[Place], limit: float, heaviest: float) -> list[list[Place]]:
    """The fewest runs of neighbours of at most `limit` tokens and of at most this cost; each has one item at least."""
    runs: list[list[Place]] = []
    tokens = cost = 0.0
    for place in line:
        tokens += place.tokens - place.saved_tokens
        cost += place.cost - place.saved
        if not runs or tokens > limit or cost > heaviest:
            runs.append([])
            tokens, cost = place.tokens, place.cost
        runs[-1].append(place)
    return runs
