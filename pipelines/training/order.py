"""The order in which pairs are seen: a matter of seed, epoch and row_id alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

from pipelines.core.determinism import unit


class HashOrder(Sampler[int]):
    """Indices in the order of hash(seed, epoch, row_id): the same however the pairs are cut into files."""

    def __init__(self, row_ids: Sequence[str], seed: int) -> None:
        self.row_ids, self.seed, self.epoch = row_ids, seed, 0

    def __len__(self) -> int:
        return len(self.row_ids)

    def __iter__(self) -> Iterator[int]:
        purpose = f"training order of epoch {self.epoch}"
        return iter(sorted(range(len(self)), key=lambda i: unit(self.seed, purpose, self.row_ids[i])))
