"""What `perf/gpu.py` makes of the figures of its parts."""

from __future__ import annotations

from typing import Any

import pytest

from perf.gpu import headline
from perf.gpu_check import verdict
from perf.gpu_shapes import Setup, pairs
from pipelines.engines.packed.packing import pack

GPU = {"device": "NVIDIA H100 80GB HBM3"}


def test_the_best_of_each_side_is_compared() -> None:
    parts: dict[str, dict[str, Any]] = {
        "check": {"ok": True, **GPU},
        "ours": {"with_reference": 20.0, "pairs_per_second": 30.0, "mfu": 0.46},
        "ours_flex": {"with_reference": 22.0, "pairs_per_second": 29.0, "mfu": 0.44},
        "ours_float8": {"with_reference": 99.0, "pairs_per_second": 99.0, "mfu": 0.9},  # another training
        "trl_cached": {"with_reference": 11.0, "pairs_per_second": 15.0, "mfu": 0.2},
        "trl_in_loop": {"with_reference": 8.0, "pairs_per_second": 8.0, "mfu": 0.1},
        "trl_cached_4": {"failed": "out of memory"},
        "reward": {"ratio": 4.0},
    }
    found = headline(parts)
    assert (found["ours"], found["baseline"], found["ratio"], found["cached_ratio"]) == (22.0, 11.0, 2.0, 2.0)
    assert found["of"] == {"ours": "ours_flex", "baseline": "trl_cached", "mfu": "ours"}
    assert found["reached"] == {"ratio": True, "cached_ratio": False, "mfu": True, "reward_ratio": False}
    assert found["ok"] and found["device"] == GPU["device"]


def test_without_figures_no_bar_is_reached() -> None:
    found = headline({"check": {"failed": "no GPU"}, "ours": {"skipped": "no time left", **GPU}})
    assert found["ok"] is None and found["ratio"] is None and not any(found["reached"].values())


@pytest.mark.parametrize(
    ("errors", "wrong"),
    [
        ({}, set()),
        ({"varlen_bf16": [0.02, 0.01]}, {"varlen_bf16"}),
        ({"varlen_bf16": [0.004, 0.1]}, {"varlen_bf16"}),
        ({"flex_fp32": "RuntimeError: no"}, {"flex_fp32"}),
        ({"split_fp32": [1e-3, 1e-6]}, {"split_fp32"}),
        ({"head_bf16": 1e-4}, {"head_bf16"}),
    ],
)
def test_a_way_that_is_further_off_than_bfloat16_itself_is_wrong(errors: dict[str, Any], wrong: set[str]) -> None:
    good = {"mask_bf16": [0.005, 0.02], "varlen_bf16": [0.006, 0.03], "split_fp32": [1e-6, 1e-6], "head_bf16": 1e-7}
    found = verdict({**good, **errors})
    assert {name for name, ok in found.items() if not ok} == wrong


def test_the_pairs_share_as_real_ones_do() -> None:
    """A batch of 16 real pairs has 1.35 times fewer distinct tokens than its pairs alone (docs/performance.md)."""
    rows = pairs(Setup("cpu", False, 1, 16, 1, 8192), 16)
    alone = sum(pack([row])["work"].tokens for row in rows)
    assert 1.25 < alone / pack(rows)["work"].tokens < 1.45
