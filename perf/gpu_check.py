"""Correctness of the GPU's attention, head and kernels against a dense mask in float32, forward and backward.

A small Llama scores pairs that share templates, in bins of unequal lengths. On a CPU the maths of `varlen` runs through
a test double of PyTorch's kernel, which proves nothing about the kernel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from perf.gpu_shapes import Setup, llama, pairs

# Pairs of each bin. Kernels must not be compiled for each length of a bin.
BINS = [(0, 6), (6, 9), (9, 16), (16, 17), (17, 28)]
SMALL = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "vocab_size": 1024,
    "num_hidden_layers": 2,
}
# Largest relative error of a log-probability, and of the gradient's norm, in float32; FlexAttention may use TF32.
FLOAT32 = {"split": (1e-4, 1e-3), "flex": (2e-3, 5e-3), "liger": (1e-4, 1e-3)}
# In bfloat16 none may be more than twice as far off as the dense mask in bfloat16 is, and this.
SLACK = (1e-4, 1e-3)
HEAD = 1e-5  # of a log-probability, from 16-bit numbers


def check(setup: Setup) -> dict[str, Any]:
    """Whether all is right (`ok`), and of `each` way: NAME_fp32 or NAME_bf16.

    `errors` has the worst two of each, of a log-probability and of a gradient, or what went wrong.
    """
    import torch

    from pipelines.engines.packed.packing import on_device, pack

    device = torch.device(setup.device)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    rows, errors, remarks = pairs(setup, BINS[-1][1], vocabulary=SMALL["vocab_size"]), dict[str, Any](), list[str]()
    bins = [on_device(pack(rows[low:high]), device) for low, high in BINS]
    right = list[tuple[Any, Any]]()
    with kernels_for(setup, remarks):
        for name in ways(setup, remarks):
            model, kind = build(setup, name), backend(name)
            right = right or [score(model, kind, packed, half=False) for packed in bins]
            for half in (False, True):
                if (name, half) == ("mask", False) or (name == "varlen" and setup.gpu and not half):
                    continue  # the reference itself; a kernel for 16 bits only
                errors[f"{name}_{'bf16' if half else 'fp32'}"] = worst(model, kind, bins, right, half)
    errors["head_bf16"] = head(device)
    ok = verdict(errors)
    return {"ok": all(ok.values()), "each": ok, "errors": errors, "remarks": remarks}


def ways(setup: Setup, remarks: list[str]) -> list[str]:
    """Backends, the reference first. `liger`, its kernels with `split`, comes last: it changes all models."""
    from pipelines.training import kernels

    found = ["mask", "split", "varlen"]
    if setup.gpu:
        found.append("flex")
    else:
        remarks.append("flex: left out, on a CPU it needs a compiler; its mask has unit tests")
    if kernels.choose("auto", setup.gpu) == "liger":
        return [*found, "liger"]
    remarks.append("liger: left out, it needs a GPU and must be installed")
    return found


def backend(name: str) -> Any:
    """Of a way."""
    return "split" if name == "liger" else name


@contextlib.contextmanager
def kernels_for(setup: Setup, remarks: list[str]) -> Iterator[None]:
    """On a CPU, the test double in place of PyTorch's kernel."""
    from pipelines.engines.packed import varlen

    original = varlen.varlen_attn
    if not setup.gpu:
        from tests.engines.packed.varlen_double import varlen_attn

        varlen.varlen_attn = varlen_attn
        remarks.append("varlen: a test double, not PyTorch's kernel, which needs a GPU")
    try:
        yield
    finally:
        varlen.varlen_attn = original


def build(setup: Setup, name: str) -> Any:
    """A small Llama for one way; all have the same weights."""
    import torch

    from pipelines.engines.packed import backends
    from pipelines.training import kernels

    made = llama(setup, backends.implementation(backend(name)), **SMALL)
    with torch.no_grad():
        for weight in made.parameters():
            if weight.dim() > 1:
                weight.mul_(2.0)  # or attention is nearly even, and no mask matters
    if name == "liger":
        kernels.fuse(made, "liger", setup.gpu)
    return made


def score(model: Any, backend: Any, packed: dict[str, Any], half: bool) -> tuple[Any, Any]:
    """Log-probabilities of the completions' tokens, and the gradient of a sum of them, in float64."""
    import torch

    from pipelines.engines.packed.backends import told
    from pipelines.training.head_logprobs import head_scores

    model.zero_grad(set_to_none=True)
    device = packed["input_ids"].device
    how = told(backend, packed["tree"], device)
    with torch.autocast(device.type, torch.bfloat16, enabled=half):
        hidden = model.model(
            input_ids=packed["input_ids"], position_ids=packed["position_ids"], use_cache=False, **how
        ).last_hidden_state
        found = head_scores(hidden[0, packed["sources"]], model.lm_head.weight, packed["targets"]).log_probs
    (found * torch.linspace(-1, 1, len(found), device=device)).sum().backward()
    return found.detach().double(), torch.cat([weight.grad.flatten().double() for weight in model.parameters()])


def worst(model: Any, kind: Any, bins: list[Any], right: list[tuple[Any, Any]], half: bool) -> list[float] | str:
    """The worst relative errors of all bins, of a log-probability and of a whole gradient; or what went wrong."""
    scores, gradients = list[float](), list[float]()
    for packed, (log_probs, gradient) in zip(bins, right, strict=True):
        try:
            found, theirs = score(model, kind, packed, half)
        except Exception as exc:
            return f"{type(exc).__name__}: {str(exc)[:300]}"
        scores.append(((found - log_probs).abs() / log_probs.abs()).max().item())
        gradients.append(((theirs - gradient).norm() / gradient.norm()).item())
    return [float(f"{max(each):.3g}") for each in (scores, gradients)]


def head(device: Any) -> float:
    """Worst relative error of the head's log-probabilities from bfloat16 numbers, against float64 on the CPU."""
    import torch

    from pipelines.training.head_logprobs import head_scores

    generator = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, 256, generator=generator).bfloat16() for n in (200, 3000))
    targets = torch.randint(3000, (200,), generator=generator)
    found = head_scores(hidden.to(device), weight.to(device), targets.to(device), chunk=2**18).log_probs.cpu().double()
    right = (hidden.double() @ weight.double().T).log_softmax(-1).gather(-1, targets[:, None])[:, 0]
    return float(f"{((found - right).abs() / right.abs()).max().item():.3g}")


def verdict(errors: dict[str, Any]) -> dict[str, bool]:
    """Of each way, whether it is as near to the dense mask in float32 as it must be."""
    double = [2 * error + slack for error, slack in zip(errors["mask_bf16"], SLACK, strict=True)]
    found = {}
    for key, error in errors.items():
        name, kind = key.rsplit("_", 1)
        if isinstance(error, str):
            found[key] = False
        elif name == "head":
            found[key] = error < HEAD
        else:
            bounds = double if kind == "bf16" else FLOAT32.get(name, FLOAT32["split"])
            found[key] = all(one <= bound for one, bound in zip(error, bounds, strict=True))
    return found


def float8(setup: Setup) -> dict[str, Any]:
    """How far products in 8 bits move the scores of a bin, beside what bfloat16 moves them; see `kernels.float8_error`.

    On a CPU float8 is emulated, and the model is tiny: the figures then mean nothing.
    """
    import torch

    from pipelines.engines.packed import backends
    from pipelines.engines.packed.choice import choose
    from pipelines.engines.packed.packing import on_device, pack
    from pipelines.training import kernels, scoring

    attention = choose(setup.gpu, half=True)
    model = llama(setup, backends.implementation(attention))
    scoring.prepare(model, attention, 8192)
    packed = on_device(pack(pairs(setup, 8)), torch.device(setup.device))
    with torch.autocast(setup.device, torch.bfloat16, enabled=setup.gpu):
        return kernels.float8_error(model, packed, emulate=not setup.gpu)
