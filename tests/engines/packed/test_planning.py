"""Plans: every item once, few distinct tokens a bin, as many bins for every worker, the heaviest as light as can be."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.engines.packed.packing import pack
from pipelines.engines.packed.planning import Item, pair_item, plan_bins
from pipelines.engines.packed.trie import build
from pipelines.engines.packed.work import Work, pair_work, stretch

PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=7)
Pair = tuple[list[int], list[int], list[int]]


def pairs_of(prompts: list[list[int]]) -> list[Pair]:
    """Pairs with these prompts and completions that no other has, of different lengths."""
    return [(prompt, [100 + i] * (1 + i % 4), [200 + i]) for i, prompt in enumerate(prompts)]


def tokens(pairs: list[Pair]) -> int:
    """Distinct tokens."""
    return len(build([prompt + side for prompt, *sides in pairs for side in sides]).ids) if pairs else 0


def plan(pairs: list[Pair], workers: int, budget: int) -> list[list[list[int]]]:
    return plan_bins([pair_item(*pair) for pair in pairs], workers, budget)


@settings(deadline=None)
@given(PROMPTS, st.integers(1, 4), st.integers(1, 60))
def test_every_pair_once_within_the_budget_and_as_many_bins_for_each_worker(
    prompts: list[list[int]], workers: int, budget: int
) -> None:
    pairs = pairs_of(prompts)
    found = plan(pairs, workers, budget)
    assert len(found) == workers and len({len(bins) for bins in found}) == 1
    assert sorted(i for bins in found for chosen in bins for i in chosen) == list(range(len(pairs)))
    limit = max(budget, *(tokens([pair]) for pair in pairs))
    assert all(tokens([pairs[i] for i in chosen]) <= limit for bins in found for chosen in bins)


@settings(deadline=None)
@given(PROMPTS, st.integers(1, 3), st.integers(1, 60))
def test_no_other_cut_into_as_many_bins_has_a_lighter_heaviest(
    prompts: list[list[int]], workers: int, budget: int
) -> None:
    pairs = pairs_of(prompts)
    bins = [chosen for bins in plan(pairs, workers, budget) for chosen in bins]
    heaviest = max(tokens([pairs[i] for i in chosen]) for chosen in bins)
    order = sorted(pairs, key=lambda pair: pair[0])
    for count in range(1, len(bins) + 1):
        for cuts in combinations(range(1, len(order)), count - 1):
            ends = [0, *cuts, len(order)]
            parts = [order[a:b] for a, b in pairwise(ends)]
            assert max(map(tokens, parts)) >= heaviest


@settings(deadline=None)
@given(PROMPTS, st.integers(2, 3), st.integers(1, 60))
def test_bins_that_meet_are_those_next_to_each_other_in_weight(
    prompts: list[list[int]], workers: int, budget: int
) -> None:
    pairs = pairs_of(prompts)
    rounds = zip(*plan(pairs, workers, budget), strict=True)
    loads = [[tokens([pairs[i] for i in chosen]) for chosen in together] for together in rounds]
    assert all(min(a) >= max(b) for a, b in pairwise(loads))


def test_pairs_of_one_template_go_to_the_same_bin() -> None:
    templates = [[1] * 50, [2] * 50]
    pairs = [(templates[i % 2] + [10 + i], [3], [4]) for i in range(8)]
    assert sorted(map(sorted, (chosen for bins in plan(pairs, 2, 1000) for chosen in bins))) == [
        [0, 2, 4, 6],
        [1, 3, 5, 7],
    ]


def test_the_cost_decides_what_weighs_the_same() -> None:
    """One long sequence attends to more than two that have as many tokens together."""
    items = [Item([i] * n, Work()) for i, n in enumerate((4, 4, 8))]
    assert plan_bins(items, 2, 100) == [[[0, 1]], [[2]]]
    assert plan_bins(items, 2, 100, lambda work: work.attended) == [[[2]], [[0, 1]]]
    shared = [Item([7] * 30 + [i], Work()) for i in range(4)]
    assert sorted(map(len, (bins[0] for bins in plan_bins(shared, 2, 100, lambda work: work.attended)))) == [2, 2]


def test_no_items_are_one_empty_bin_for_each_worker() -> None:
    assert plan_bins([], 2, 10) == [[[]], [[]]]


@pytest.mark.parametrize("shared", [0, 2])
def test_the_work_that_is_planned_is_what_a_pair_takes(shared: int) -> None:
    first = [5, 6][:shared]
    row = {"prompt_ids": [1, 2, 3], "chosen_ids": [*first, 7, 8], "rejected_ids": [*first, 9]}
    item = pair_item(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"])
    assert item.rest == pair_work(3, 2 + shared, 1 + shared, shared)
    assert stretch(0, 3) + item.rest == pack([row])["work"]
