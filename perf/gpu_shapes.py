"""Models of Llama-3.1-8B's shape with random weights, pairs like a judge's, and what a GPU's peak is."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

# NVIDIA's data sheets: bfloat16, dense, per second. The longest name that the device's begins with or has counts.
PEAKS = {"H100 PCIe": 756e12, "H100": 989.4e12, "H200": 989.4e12, "A100": 312e12, "B200": 2250e12, "L40S": 362e12}
FULL = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
}
TEMPLATES = 4  # whose text is about a third of a prompt: a batch then has as many distinct tokens as a real one
# Bytes that training needs beside its layers (embedding and head with their optimizer, a chunk of logits, the rest of
# PyTorch) and for each of them (20 a weight, and the activations of 10,000 tokens): by arithmetic, not measured.
FIXED, PER_LAYER, USABLE = 26e9, 6.8e9, 0.88


@dataclass(frozen=True)
class Setup:
    """What every part of the check needs to know.

    Attributes:
        device: cuda or cpu.
        tiny: sizes that a CPU does in seconds.
        layers: of the model.
        batch: pairs of an optimizer step.
        steps: that are timed.
        bin_tokens: distinct tokens of a bin.
    """

    device: str
    tiny: bool
    layers: int
    batch: int
    steps: int
    bin_tokens: int

    @property
    def gpu(self) -> bool:
        """Whether the device is one."""
        return self.device == "cuda"

    def sync(self) -> None:
        """Wait until the device has done what it was told."""
        if self.gpu:
            import torch

            torch.cuda.synchronize()


def layers_that_fit() -> int:
    """Of Llama-3.1-8B's 32, on the first GPU."""
    import torch

    total = torch.cuda.get_device_properties(0).total_memory
    return max(1, min(32, int((USABLE * total - FIXED) / PER_LAYER)))


def peak(device: str) -> float | None:
    """Operations a second of the device, or None if it is not known."""
    if device != "cuda":
        return None
    import torch

    name = torch.cuda.get_device_name()
    known = [key for key in PEAKS if all(word in name for word in key.split())]
    return PEAKS[max(known, key=len)] if known else None


def config(setup: Setup, **more: Any) -> Any:
    """Llama-3.1-8B's config.json with another number of layers, or a tiny one."""
    from transformers import LlamaConfig

    return LlamaConfig(
        **{**(TINY if setup.tiny else FULL), "num_hidden_layers": setup.layers, **more},
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=2,
        use_cache=False,
    )


def llama(setup: Setup, implementation: str, **more: Any) -> Any:
    """A causal language model in float32, its random weights made on the device."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    with torch.device(setup.device):
        model = LlamaForCausalLM._from_config(
            config(setup, **more), dtype=torch.float32, attn_implementation=implementation
        )
    return model.to(setup.device)


def pairs(setup: Setup, n: int, vocabulary: int | None = None, seed: int = 1) -> list[dict[str, Any]]:
    """Prompts of 700 to 1,200 tokens that begin with one of four templates, critiques of about 130 tokens, three pairs
    in ten judgments of 6."""
    rng = random.Random(seed)
    scale, words = (0.04 if setup.tiny else 1.0), vocabulary or (TINY if setup.tiny else FULL)["vocab_size"]

    def tokens(low: float, high: float) -> list[int]:
        return [rng.randrange(3, words) for _ in range(max(3, round(rng.uniform(low, high) * scale)))]

    templates, rows = [tokens(250, 400) for _ in range(TEMPLATES)], []
    for i in range(n):
        size = (6 / scale, 6 / scale) if rng.random() < 0.3 else (70, 190)
        prompt = [*rng.choice(templates), *tokens(450, 800)]
        rows.append(
            {"row_id": f"r{i}", "prompt_ids": prompt, "chosen_ids": tokens(*size), "rejected_ids": tokens(*size)}
        )
    return rows
