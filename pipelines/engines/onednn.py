"""A model's linear layers computed by oneDNN on a CPU, where PyTorch would have MKL compute them.

PyTorch gives float32 products to MKL, which does not use AVX-512 on processors that are not Intel's, and convolutions
to oneDNN, which does. A linear layer is a convolution with a window of one token: the same sums, and in memory the
layout is the same, so nothing is copied. Twice as fast on two cores of an EPYC (docs/performance.md).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.grad import conv2d_weight


def quicker() -> bool:
    """Whether this machine's processor has what oneDNN is quicker with, and PyTorch was built with it."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def use(model: Any) -> int:
    """Have oneDNN compute the model's linear layers, in place; their weights and names stay as they are.

    Call it before anything wraps or replaces layers.

    Returns:
        How many layers.
    """
    # A class of its own may compute something else.
    layers = [module for module in model.modules() if type(module) is torch.nn.Linear]
    for layer in layers:
        layer.forward = partial(linear, layer)
    return len(layers)


def used(model: torch.nn.Module) -> bool:
    """Whether oneDNN computes linear layers of this model since `use`."""
    own = (vars(module).get("forward") for module in model.modules())
    return any(isinstance(forward, partial) and forward.func is linear for forward in own)


def linear(layer: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """The layer's output (..., N) for `x` (..., K)."""
    weight, bias = layer.weight, layer.bias
    whole = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    if not whole or x.is_cuda or not x.numel():
        return F.linear(x, weight, bias)
    found = product(x.reshape(-1, x.shape[-1]), weight)
    return (found if bias is None else found + bias).view(*x.shape[:-1], len(weight))


def product(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`rows` (T, K) @ `weight` (N, K).T, (T, N)."""
    return F.conv2d(image(rows), weight[:, :, None, None]).permute(0, 2, 3, 1)[0, 0]


def image(rows: torch.Tensor) -> torch.Tensor:
    """(T, K) as one image of one line and T columns, whose channels come last in memory: (1, K, 1, T)."""
    return rows[None, None].permute(0, 3, 1, 2)


def multiply(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """`a` (T, K) @ `b` (K, N), (T, N)."""
    if a.dtype != torch.float32 or not a.numel():
        return a @ b
    if a.T.is_contiguous():  # as a weight's gradient: nothing is copied
        return conv2d_weight(image(b), (len(a), b.shape[1], 1, 1), image(a.T))[:, :, 0, 0]
    return product(a, b.T)
