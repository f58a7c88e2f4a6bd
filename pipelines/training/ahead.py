"""The next item of a dataset, made while the last one is computed with. Imported by the worker only."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch.utils.data import Dataset


class Ahead(Dataset[Any]):
    """A dataset that is read in turn, with one thread that makes the item after the one asked for.

    A thread, not a process of the loader: the items are Arrow's memory and small tensors, and most of the time a
    device computes. Nothing is made beyond the last item, since the next epoch may have another order.

    Args:
        items: what to read; its items must not depend on what was read before.
    """

    def __init__(self, items: Any) -> None:
        self.items = items
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="next-step")
        self._next: tuple[int, Future[Any]] | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        made, self._next = self._next, None
        if made is not None:
            item = made[1].result()  # waited for in any case: two threads must not make items at a time
        if made is None or made[0] != index:
            item = self.items[index]
        if index + 1 < len(self):
            self._next = index + 1, self._pool.submit(self.items.__getitem__, index + 1)
        return item
