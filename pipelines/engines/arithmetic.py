"""Which arithmetic a device does at full speed."""

from __future__ import annotations

import platform
from functools import lru_cache
from typing import Literal

Arithmetic = Literal["bfloat16", "float32"]


def fast_arithmetic(gpus: float) -> Arithmetic:
    """bfloat16, but float32 on a CPU that would emulate it: x86 without AVX-512, where a product took 13 ms, not 0.4.

    Args:
        gpus: of the device; 0 is this machine's CPU.
    """
    return "bfloat16" if gpus or _cpu_multiplies_bfloat16() else "float32"


@lru_cache(maxsize=1)
def _cpu_multiplies_bfloat16() -> bool:
    import torch

    return platform.machine().lower() not in ("x86_64", "amd64") or torch.backends.cpu.get_cpu_capability() == "AVX512"
