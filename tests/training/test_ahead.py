"""Items that are made one ahead."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest

from pipelines.training.ahead import Ahead


class Items:
    """Squares, and by which thread each was made."""

    def __init__(self, n: int) -> None:
        self.n, self.made = n, list[tuple[int, int]]()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        if index == 7:
            raise ValueError("the eighth")
        self.made.append((index, threading.get_ident()))
        return index * index


def test_each_item_is_made_once_and_all_but_the_first_by_another_thread() -> None:
    items = Items(4)
    ahead = Ahead(items)
    for _ in range(2):  # epochs
        assert [ahead[i] for i in range(len(ahead))] == [0, 1, 4, 9]
    assert [index for index, _ in items.made] == [0, 1, 2, 3] * 2
    here = threading.get_ident()
    assert [thread == here for _, thread in items.made] == [True, False, False, False] * 2


def test_another_order_is_right_too() -> None:
    items = Items(6)
    ahead = Ahead(items)
    assert [ahead[i] for i in (3, 0, 5, 1)] == [9, 0, 25, 1]
    assert all(one != other for one, other in pairwise(index for index, _ in items.made))


def test_an_error_comes_with_its_own_item() -> None:
    ahead = Ahead(Items(9))
    assert ahead[6] == 36
    with pytest.raises(ValueError, match="the eighth"):
        ahead[7]
