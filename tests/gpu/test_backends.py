"""The correctness half of `perf/gpu.py`: attention, head and kernels of a GPU against a dense mask in float32."""

from __future__ import annotations

import pytest

from perf.gpu_check import check
from perf.gpu_shapes import Setup


@pytest.mark.gpu
def test_every_way_is_as_near_to_the_dense_mask_as_it_must_be() -> None:
    found = check(Setup("cuda", tiny=False, layers=2, batch=16, steps=1, bin_tokens=8192))
    assert found["ok"], found
