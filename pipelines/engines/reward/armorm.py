"""ArmoRM's architecture, our own class: regression head, gating network, verbosity transform.

The state-dict keys are those of RLHFlow/ArmoRM-Llama3-8B-v0.1; its remote code does not run on current
transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel, LlamaPreTrainedModel, initialization

from pipelines.core.errors import UserError
from pipelines.engines.models import quiet_transformers
from pipelines.engines.packed.backends import implementation
from pipelines.engines.packed.choice import Backend

# In the order of the checkpoint's outputs (model card); a config without `objectives` means these.
OBJECTIVES = (
    *(f"helpsteer-{name}" for name in ("helpfulness", "correctness", "coherence", "complexity", "verbosity")),
    *(
        f"ultrafeedback-{name}"
        for name in ("overall_score", "instruction_following", "truthfulness", "honesty", "helpfulness")
    ),
    "beavertails-is_safe",
    "prometheus-score",
    "argilla-overall_quality",
    "argilla-judge_lm",
    *(f"code-{name}" for name in ("complexity", "style", "explanation", "instruction-following", "readability")),
)


class Output(NamedTuple):
    """Score (B,), rewards of the objectives (B, K) and gating coefficients (B, K)."""

    score: Tensor
    rewards: Tensor
    gating: Tensor


class Gating(nn.Module):
    """Weights of the objectives from one hidden state of the prompt: an MLP, a softmax, a learned scale."""

    def __init__(self, features: int, objectives: int, hidden: int, depth: int, temperature: float) -> None:
        super().__init__()
        sizes = [features, *[hidden] * depth, objectives]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.logit_scale = nn.Parameter(torch.ones(1))
        self.temperature = temperature

    def forward(self, prompt: Tensor) -> Tensor:
        """Coefficients (B, K) of prompt hidden states (B, H)."""
        for layer in self.layers[:-1]:
            prompt = torch.relu(layer(prompt))
        return torch.softmax(self.layers[-1](prompt) / self.temperature, dim=-1) * self.logit_scale


class ArmoRM(LlamaPreTrainedModel):
    """A Llama backbone under `model.`, linear rewards, a transform that removes verbosity, and gating.

    Keys of config.json beyond Llama's, with the published checkpoint's values as defaults: `num_objectives`
    19, `gating_hidden_dim` 1024, `gating_n_hidden` 3, `gating_temperature` 10, `objectives` (names),
    `gate_pattern` (token ids that end the user's turn and open the assistant's; by default the chat
    template's own).
    """

    config_class = LlamaConfig

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        count = getattr(config, "num_objectives", len(OBJECTIVES))
        self.model = LlamaModel(config)
        self.regression_layer = nn.Linear(config.hidden_size, count, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.eye(count), requires_grad=False)
        self.gating = Gating(
            config.hidden_size,
            count,
            hidden=getattr(config, "gating_hidden_dim", 1024),
            depth=getattr(config, "gating_n_hidden", 3),
            temperature=getattr(config, "gating_temperature", 10),
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        # Called for what a checkpoint does not have, which would otherwise be uninitialised memory.
        super()._init_weights(module)
        if isinstance(module, Gating):
            initialization.ones_(module.logit_scale)
        elif isinstance(module, ArmoRM):
            initialization.eye_(module.reward_transform_matrix)

    @property
    def objectives(self) -> tuple[str, ...]:
        """Names of the objectives, in the order of the rewards."""
        count = len(self.reward_transform_matrix)
        names = getattr(self.config, "objectives", None) or (OBJECTIVES if count == len(OBJECTIVES) else ())
        return tuple(names) or tuple(f"objective-{k}" for k in range(count))

    def forward(self, input_ids: Tensor, last: Tensor, gate: Tensor, **packed: Any) -> Output:
        """Score conversations, right-padded or packed.

        Args:
            input_ids: (B, T). No attention mask: under causal attention no token sees the padding after it.
            last: (B,) position of the last token that is not padding.
            gate: (B,) position from which the gating reads the prompt, see `find_gate`.
            packed: `position_ids` (1, T), and what `backends.told` makes, of one trie (1, T) of N conversations;
                `last` and `gate` are then (N,) places in it. Needs a model loaded with `attention`.
        """
        hidden, prompt = self.features(input_ids, last, gate, **packed)
        return self.head(hidden, prompt)

    def features(self, input_ids: Tensor, last: Tensor, gate: Tensor, **packed: Any) -> tuple[Tensor, Tensor]:
        """Hidden states (N, H) of the last token and of the gate position."""
        states = self.model(input_ids=input_ids, use_cache=False, **packed).last_hidden_state
        rows = torch.zeros_like(last) if packed else torch.arange(len(states), device=states.device)
        return states[rows, last], states[rows, gate]

    def head(self, hidden: Tensor, prompt: Tensor) -> Output:
        """Output of the small head for the two hidden states (B, H)."""
        rewards = self.regression_layer(hidden)
        gating = self.gating(prompt)
        return Output((gating * (rewards @ self.reward_transform_matrix)).sum(dim=-1), rewards, gating)

    def coefficients(self, gating: Tensor) -> Tensor:
        """Weights (B, K) of the untransformed rewards in the score: gating @ Tᵀ."""
        return gating @ self.reward_transform_matrix.T


def find_gate(ids: Sequence[int], pattern: Sequence[int]) -> int | None:
    """Position of the first token of the last occurrence of the pattern, or None."""
    width = len(pattern)
    for start in range(len(ids) - width, -1, -1):
        if list(ids[start : start + width]) == list(pattern):
            return start
    return None


def load(folder: str, dtype: str = "float32", attention: Backend | None = None) -> ArmoRM:
    """Load a checkpoint, every key of it and no other; a head loaded wrongly would score without an error.

    Args:
        folder: Hugging Face layout (safetensors, config.json), or a hub id.
        dtype: `float32` or `bfloat16`.
        attention: for packed conversations; None if it will get none.

    Raises:
        UserError: the folder cannot be read, or keys are missing, unexpected or of another shape.
    """
    more = {"attn_implementation": implementation(attention)} if attention else {}
    model, report = read_checkpoint(ArmoRM, folder, dtype, **more)
    check_keys(folder, report)
    return model.eval()


def read_checkpoint(kind: Any, folder: str, dtype: str, **more: Any) -> tuple[Any, dict[str, Any]]:
    """`kind.from_pretrained` and its report of keys; `trust_remote_code` stays off.

    Raises:
        UserError: there is no such checkpoint, or it cannot be read.
    """
    from safetensors import SafetensorError

    settings = {"dtype": getattr(torch, dtype), "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        with quiet_transformers():
            return kind.from_pretrained(folder, **settings, **more)
    except (OSError, ValueError, SafetensorError) as exc:
        reason = " ".join(str(exc).split())[:200]
        raise UserError(f"not a reward model that can be loaded: {reason}", where=folder) from None


def check_keys(folder: str, report: dict[str, Any]) -> None:
    """Refuse a checkpoint whose keys are not exactly the model's.

    Raises:
        UserError: naming the first keys of each kind.
    """
    wrong = []
    for kind, label in (
        ("missing_keys", "missing"),
        ("unexpected_keys", "unexpected"),
        ("mismatched_keys", "of another shape"),
    ):
        keys = sorted(key if isinstance(key, str) else key[0] for key in report[kind])
        if keys:
            shown = ", ".join(keys[:4]) + (f" and {len(keys) - 4} more" if len(keys) > 4 else "")
            wrong.append(f"{label}: {shown}")
    if wrong:
        raise UserError(f"the checkpoint does not fit the model; keys {'; '.join(wrong)}", where=folder)


def save(model: ArmoRM, tokenizer: Any, folder: Path) -> None:
    """Write model and tokenizer in the Hugging Face layout."""
    with quiet_transformers():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
