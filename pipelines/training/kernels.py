"""Kernels from libraries in place of a model's own layers. Those for GPUs are not proven on one.

On a CPU with AVX-512, oneDNN's linear layers in float32 (`onednn.py`). On GPUs, Liger's RMSNorm, rotation and gated
layer, which compute what the library's do, in one pass over memory each. Products in 8 bits (torchao) are quicker and
not the same: `float8_error` says how far off a model's scores are.
"""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any, Literal

from pipelines.core.errors import UserError

Kernels = Literal["auto", "liger", "onednn", "none"]
Chosen = Literal["liger", "onednn", "none"]
WHERE = "train.kernels"
INSTALL = "pip install 'openselene[gpu]'"
LIGER = {"cross_entropy": False, "fused_linear_cross_entropy": False}  # the loss and the head are ours
EIGHT_BITS = 16  # rows and columns of a product in 8 bits are multiples of this


def choose(kernels: Kernels, gpu: bool) -> Chosen:
    """What a device gets; `auto` is Liger's on a GPU where they are installed, oneDNN's on a CPU where quicker.

    Raises:
        UserError: some are asked for where they cannot run.
    """
    if kernels == "onednn" and gpu:
        raise UserError("oneDNN's kernels are for CPUs", where=WHERE, fix="set it to auto or none")
    if not gpu and kernels in ("auto", "onednn"):
        from pipelines.engines import onednn

        return "onednn" if kernels == "onednn" or onednn.quicker() else "none"
    installed = importlib.util.find_spec("liger_kernel") is not None
    if kernels == "liger" and not gpu:
        raise UserError("Liger's kernels need a GPU", where=WHERE, fix="set it to auto or none")
    if kernels == "liger" and not installed:
        raise UserError("liger-kernel is not installed", where=WHERE, fix=INSTALL)
    return "liger" if gpu and installed and kernels != "none" else "none"


def fuse(model: Any, kernels: Kernels, gpu: bool) -> Chosen:
    """Put the chosen kernels into a `transformers` model, in place; call it before anything else changes its layers.

    Returns:
        What was done.

    Raises:
        UserError: as `choose`, or Liger was asked for by name and does not know models of this type.
    """
    chosen = choose(kernels, gpu)
    if chosen == "none":
        return "none"
    if chosen == "onednn":
        from pipelines.engines import onednn

        onednn.use(model)
        return "onednn"
    from transformers.integrations.liger import apply_liger_kernel

    apply_liger_kernel(model, LIGER)
    if any(module.forward.__module__.startswith("liger_kernel") for module in model.modules()):
        return "liger"
    if kernels == "liger":  # the library says nothing
        raise UserError(
            f"Liger has no kernels for a model of type '{model.config.model_type}'", where=WHERE, fix="set it to auto"
        )
    return "none"


def use_float8(model: Any, emulate: bool = False) -> int:
    """Compute the products of all linear layers but the head in 8 bits, scaled row by row; weights stay as they are.

    Args:
        model: of `transformers`.
        emulate: round as float8 does, in slow arithmetic that any device has.

    Returns:
        How many layers.

    Raises:
        UserError: torchao is not installed.
    """
    import torch

    if importlib.util.find_spec("torchao") is None:
        raise UserError("torchao is not installed", fix="pip install 'openselene[float8]'")
    from torchao.float8 import Float8LinearConfig, convert_to_float8_training

    head, changed = model.get_output_embeddings(), 0

    def wanted(module: torch.nn.Module, name: str) -> bool:
        nonlocal changed
        fits = module is not head and not any(size % EIGHT_BITS for size in module.weight.shape)
        changed += fits
        return fits

    config = replace(Float8LinearConfig.from_recipe_name("rowwise"), emulate=emulate)
    convert_to_float8_training(model, module_filter_fn=wanted, config=config)
    return changed


def float8_error(model: Any, packed: dict[str, Any], emulate: bool = False) -> dict[str, float]:
    """How far products in 8 bits move a model's scores; the model is converted by this.

    At DPO's first step policy and reference are one model: a margin is beta × what stands here as `margin`, where it
    would be 0.

    Args:
        model: prepared by `scoring.prepare`, as it is trained otherwise.
        packed: a packed bin, see `packing.pack`.
        emulate: see `use_float8`.

    Returns:
        `layers` changed; the root mean squares, in nats, of the changes of `log_prob`, of a completion, and of
        `margin`, the chosen one's less the rejected one's.
    """
    import torch

    with torch.no_grad():
        before = model(packed).log_probs.double()
        layers = use_float8(model, emulate)
        off = (model(packed).log_probs.double() - before).view(-1, 2)
    margins = off[:, 0] - off[:, 1]
    return {
        "layers": layers,
        "log_prob": off.square().mean().sqrt().item(),
        "margin": margins.square().mean().sqrt().item(),
    }
