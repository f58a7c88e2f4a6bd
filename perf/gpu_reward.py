"""Reward scores of ArmoRM's shape on one device: packed with the prompt shared, against one conversation at a time."""

from __future__ import annotations

import random
import time
from typing import Any

from perf.gpu_check import kernels_for
from perf.gpu_shapes import FULL, TINY, Setup, config

PROMPTS, TINY_PROMPTS = 96, 6  # with two responses each
LAYERS = 32  # of the whole model: in bfloat16 it fits
BATCH_TOKENS = 16384
GATE = [3, 4]  # ids that end a prompt; no prompt has them otherwise
SAME = 2e-2  # of the scores' range, in bfloat16


def reward(setup: Setup) -> dict[str, Any]:
    """Conversations a second both ways, in turn, after one round that is not timed."""
    import torch

    from pipelines.engines.packed import backends
    from pipelines.engines.packed.work import Shape
    from pipelines.engines.reward.armorm import ArmoRM
    from pipelines.engines.reward.stage import ArmoScorer

    remarks: list[str] = []
    attention = "varlen"
    dtype = torch.bfloat16 if setup.gpu else torch.float32
    with kernels_for(setup, remarks), torch.inference_mode():
        torch.manual_seed(0)
        with torch.device(setup.device):
            settings = config(setup, num_hidden_layers=setup.layers if setup.tiny else LAYERS)
            model = ArmoRM._from_config(settings, dtype=dtype, attn_implementation=backends.implementation(attention))
        scorer = object.__new__(ArmoScorer)  # without a tokenizer: the conversations are token ids already
        scorer.model, scorer.device = model.eval().to(setup.device), torch.device(setup.device)
        scorer.batch_tokens, scorer.pattern = BATCH_TOKENS if setup.gpu else setup.bin_tokens, GATE
        scorer.attention, scorer.cost = attention, Shape.of(settings).forward
        talks = conversations(setup)

        def packed() -> list[float]:
            found = {key: score.reward for key, score in scorer.forward(talks)}
            return [found[key] for key in talks]

        def alone() -> list[float]:
            return [one(scorer, talk) for talk in talks.values()]

        ways = {"packed": packed, "alone": alone}
        scores = {name: way() for name, way in ways.items()}
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(2):
            for name, way in ways.items():
                setup.sync()
                start = time.perf_counter()
                way()
                setup.sync()
                rates[name].append(len(talks) / (time.perf_counter() - start))
    best = {name: max(each) for name, each in rates.items()}
    spread = max(scores["alone"]) - min(scores["alone"])
    off = max(abs(a - b) for a, b in zip(scores["packed"], scores["alone"], strict=True)) / spread
    return {
        "ratio": round(best["packed"] / best["alone"], 3),
        "conversations_per_second": {name: round(rate, 2) for name, rate in best.items()},
        "largest_difference": float(f"{off:.3g}"),
        "same": off < SAME,
        "remarks": remarks,
    }


def one(scorer: Any, talk: Any) -> float:
    """The score of one conversation alone: ordinary causal attention, nothing padded."""
    import torch

    from pipelines.engines.reward.armorm import find_gate

    def place(at: int) -> Any:
        return torch.tensor([at], device=scorer.device)

    ids = torch.tensor([talk.ids], device=scorer.device)
    gate = find_gate(talk.prompt, scorer.pattern)
    assert gate is not None
    return float(scorer.model(ids, place(len(talk.ids) - 1), place(gate)).score)


def conversations(setup: Setup) -> dict[int, Any]:
    """Prompts of 50 to 600 tokens with two responses of 50 to 400 each."""
    from pipelines.engines.reward.conversations import Encoded

    rng, found = random.Random(2), {}
    scale, words = (0.04, TINY["vocab_size"]) if setup.tiny else (1.0, FULL["vocab_size"])

    def tokens(low: float, high: float) -> list[int]:
        return [rng.randrange(5, words) for _ in range(max(2, round(rng.uniform(low, high) * scale)))]

    for _ in range(TINY_PROMPTS if setup.tiny else PROMPTS):
        prompt = [*tokens(50, 600), *GATE]
        for _ in range(2):
            found[len(found)] = Encoded(prompt, tokens(50, 400))
    return found
