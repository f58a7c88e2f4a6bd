"""Each implementation in real models: scores of a packed trie, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from pipelines.core.errors import UserError
from pipelines.engines.packed import backends, tree_attention, varlen
from pipelines.engines.packed.choice import Backend, choose
from pipelines.engines.packed.trie import build
from tests.engines.packed.reference import PAIRS
from tests.engines.packed.varlen_double import varlen_attn

ALL: list[Backend] = ["split", "varlen", "flex", "mask"]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)


def model(family: str, backend: Backend, **more: Any) -> Any:
    """A random one of 32 channels and two layers."""
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "head_dim": 8}
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{family}Config")(**sizes, **heads, **ids, **more)
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config, attn_implementation=backends.implementation(backend))
    with torch.no_grad():
        for weight in made.parameters():
            if weight.dim() > 1:
                weight.mul_(10)  # or attention is nearly even, and no mask matters
    return made.eval()


def hidden(made: Any, backend: Backend, sequences: list[list[int]]) -> torch.Tensor:
    """States (T, H) of the trie's tokens."""
    tree = build(sequences)
    return made.model(
        input_ids=torch.from_numpy(tree.ids)[None],
        position_ids=torch.from_numpy(tree.positions)[None],
        use_cache=False,
        **backends.told(backend, tree, CPU),
    ).last_hidden_state[0]


def gradients(made: Any, states: torch.Tensor) -> torch.Tensor:
    made.zero_grad()
    (states * torch.linspace(-1, 1, states.numel()).view_as(states)).sum().backward()
    return torch.cat([weight.grad.flatten() for weight in made.model.parameters()])


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
@pytest.mark.parametrize("backend", ["split", "varlen", "mask"])
def test_a_model_sees_of_a_trie_what_it_sees_of_each_sequence(backend: Backend, family: str) -> None:
    """States against each sequence alone, gradients against the dense mask."""
    made, tree = model(family, backend), build(PAIRS)
    states = hidden(made, backend, PAIRS)
    plain = model(family, "split")
    for sequence, path in zip(PAIRS, tree.paths, strict=True):
        alone = plain.model(input_ids=torch.tensor([sequence]), use_cache=False).last_hidden_state[0]
        torch.testing.assert_close(states[torch.from_numpy(path)], alone, rtol=1e-4, atol=1e-5)
    masked = model(family, "mask")
    right = gradients(masked, hidden(masked, "mask", PAIRS))
    found = gradients(made, states)
    assert float((found - right).norm() / right.norm()) < 1e-4


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize(
    ("family", "more", "what"),
    [
        ("Mistral", {"sliding_window": 5}, "looks back 5 tokens"),
        ("Phi3", {"sliding_window": 5}, "looks back 5 tokens"),
        ("Gemma2", {"sliding_window": 64}, "caps its attention scores"),
        ("GptOss", {"sliding_window": 64, "num_local_experts": 2, "num_experts_per_tok": 1}, "attention sinks"),
    ],
)
def test_attention_that_is_more_than_the_rule_is_refused(
    backend: Backend, family: str, more: dict[str, Any], what: str
) -> None:
    if family == "Phi3":
        more = {**more, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}}
    with pytest.raises(UserError, match=rf"train\.model: the model .*{what}"):
        tree_attention.refuse(model(family, backend, **more), 6, where="train.model", fix="choose another")


@pytest.mark.parametrize("backend", ALL)
@pytest.mark.parametrize(
    ("family", "more", "keyword"),
    [
        ("Gemma2", {}, "softcap"),
        ("GptOss", {"num_local_experts": 2, "num_experts_per_tok": 1}, "s_aux"),
    ],
)
def test_a_layer_that_asks_for_more_is_refused_too(
    backend: Backend, family: str, more: dict[str, Any], keyword: str
) -> None:
    """Should a model's config not say it."""
    with pytest.raises(ValueError, match=f"attention with {keyword} is not implemented"):
        hidden(model(family, backend, **more), backend, PAIRS)


def test_each_device_has_its_own() -> None:
    assert choose(gpu=False, half=True) == choose(gpu=False, half=False) == "split"
    assert choose(gpu=True, half=True) == "varlen"
    assert choose(gpu=True, half=False) == "flex"
