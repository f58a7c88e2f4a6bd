"""Packing: every pair once, few tokens a bin, the same number of bins for every worker."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.engines.packed.packing import Span, assign_bins, pack

lengths_of_pairs = st.lists(st.integers(1, 900), min_size=1, max_size=40)


@given(lengths_of_pairs, st.integers(1, 5), st.integers(1, 3000))
def test_every_pair_once_and_as_many_bins_for_each_worker(lengths: list[int], workers: int, budget: int) -> None:
    plan = assign_bins(lengths, workers, budget)
    assert len(plan) == workers and len({len(bins) for bins in plan}) == 1
    assert sorted(i for bins in plan for chosen in bins for i in chosen) == list(range(len(lengths)))


@given(lengths_of_pairs, st.integers(1, 5), st.integers(1, 3000))
def test_a_bin_keeps_to_the_budget_unless_one_pair_is_longer(lengths: list[int], workers: int, budget: int) -> None:
    limit = max(budget, *lengths)
    loads = [sum(lengths[i] for i in chosen) for bins in assign_bins(lengths, workers, budget) for chosen in bins]
    assert max(loads) <= limit


@given(lengths_of_pairs, st.integers(2, 4))
def test_bins_that_meet_differ_by_less_than_the_longest_pair(lengths: list[int], workers: int) -> None:
    for together in zip(*assign_bins(lengths, workers, 2000), strict=True):
        loads = [sum(lengths[i] for i in chosen) for chosen in together]
        assert max(loads) - min(loads) <= max(lengths)


def test_one_bin_where_all_fits() -> None:
    assert assign_bins([5, 9, 7], 1, 100) == [[[1, 2, 0]]]


def test_a_packed_sequence_by_hand() -> None:
    rows = [
        {"prompt_ids": [10, 11, 12], "chosen_ids": [20, 21], "rejected_ids": [30]},
        {"prompt_ids": [13], "chosen_ids": [22], "rejected_ids": [31, 32]},
    ]
    packed = pack(rows)
    assert packed["input_ids"].tolist() == [[10, 11, 12, 20, 21, 30, 13, 22, 31, 32]]
    assert packed["position_ids"].tolist() == [[0, 1, 2, 3, 4, 3, 0, 1, 1, 2]]
    assert packed["sources"].tolist() == [2, 3, 2, 6, 6, 8]
    assert packed["targets"].tolist() == [20, 21, 30, 22, 31, 32]
    assert packed["completions"].tolist() == [0, 0, 1, 2, 3, 3]
    assert packed["spans"] == [Span(0, 3, 2, 1), Span(6, 1, 1, 2)]
    assert packed["input_ids"].dtype == torch.int64
