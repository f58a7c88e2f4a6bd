"""Attention over a packed trie: every implementation against the definition."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Gemma2Config, LlamaConfig, MistralConfig, Qwen2Config

from pipelines.core.errors import UserError
from pipelines.engines.packed import tree_attention as attention
from pipelines.engines.packed.trie import Trie, build
from tests.engines.packed.reference import LONG, PAIRS, Sequences, by_hand, check, qkv
from tests.engines.packed.tries import SEQUENCES, prefixes, sees

CPU = torch.device("cpu")


def split(*inputs: torch.Tensor, tree: Trie, by_onednn: bool = False) -> torch.Tensor:
    layout = attention.Layout(tree, CPU, by_onednn)
    return attention.split_attention(SimpleNamespace(), *inputs, None, tree=layout)[0]


@pytest.mark.parametrize("small", [0, 100, 256**2], ids=["fused", "both", "plain"])
@pytest.mark.parametrize("sequences", [PAIRS, LONG], ids=["short", "long"])
def test_split_attention_and_its_gradients(small: int, sequences: Sequences, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SMALL", small)
    check(split, sequences)


@pytest.mark.parametrize("least", [0, 100], ids=["all", "some"])
@pytest.mark.parametrize("sequences", [PAIRS, LONG], ids=["short", "long"])
def test_attention_by_onednns_products_and_its_gradients(
    least: int, sequences: Sequences, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "HEAD_BY_HEAD", least)
    check(partial(split, by_onednn=True), sequences)


def test_onednns_products_are_right_in_float32() -> None:
    """The type they are made for; above it is float64, which PyTorch multiplies itself."""
    tree = build(LONG)
    inputs = qkv(len(tree.ids))
    singles = [x.detach().float().requires_grad_() for x in inputs]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "HEAD_BY_HEAD", 0)
        out = split(*singles, tree=tree, by_onednn=True)
    right = split(*inputs, tree=tree)
    weights = torch.randn(out.shape)
    ours = torch.autograd.grad((out * weights).sum(), singles)
    theirs = torch.autograd.grad((right * weights.double()).sum(), inputs)
    for found, wanted in zip((out, *ours), (right, *theirs), strict=True):
        assert (found.double() - wanted).abs().max() < 2e-6 * wanted.abs().max()


def test_blocks_are_large_enough_for_onednns_products() -> None:
    tree = build([[i] * 300 for i in range(5)] + [[9] * 20])
    assert attention.Layout(tree, CPU, by_onednn=True).ways == [*[attention.head_by_head] * 5, attention.plain]
    assert attention.head_by_head not in attention.Layout(tree, CPU).ways


@settings(max_examples=15, deadline=None)
@given(SEQUENCES, st.sampled_from([0, 12, 256**2]), st.sampled_from([2, 256]))
def test_split_attention_of_any_trie(sequences: Sequences, small: int, longest: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "SMALL", small)
        patch.setattr(attention, "LONGEST", longest)
        check(split, sequences)


def test_the_dense_mask_is_the_definition() -> None:
    tree = build(PAIRS)
    assert attention.dense_mask(tree, CPU)[0, 0].tolist() == sees(prefixes(tree, PAIRS))


def test_no_mask_is_larger_than_a_block() -> None:
    """Work between sequences that share nothing is not done, not even masked."""
    layout = attention.Layout(build([[i] * 300 for i in range(5)]), CPU)
    assert layout.masks == [None] * 5 and [block.keys for block in layout.cut.blocks] == [300] * 5


def test_without_a_tree_it_is_causal_attention() -> None:
    q, k, v = qkv(6)
    out, _ = attention.split_attention(SimpleNamespace(), q, k, v, None)
    torch.testing.assert_close(out, by_hand(q, k, v, [[j <= i for j in range(6)] for i in range(6)]))


@pytest.mark.parametrize("more", [{"dropout": 0.1}, {"softcap": 30.0}, {"s_aux": torch.zeros(4)}, {"position_bias": 1}])
def test_what_a_layer_asks_for_and_split_cannot_do_is_refused(more: dict[str, Any]) -> None:
    q, k, v = qkv(6)
    with pytest.raises(ValueError, match=next(iter(more))):
        attention.split_attention(SimpleNamespace(), q, k, v, None, **more)
    attention.split_attention(SimpleNamespace(), q, k, v, None, position_ids=torch.zeros(1), softcap=None)


def model_of(config: Any, *parameters: str) -> Any:
    return SimpleNamespace(config=config, named_parameters=lambda: [(name, None) for name in parameters])


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (
            model_of(MistralConfig(sliding_window=16)),
            "looks back 16 tokens in some layers, and sequences have up to 17",
        ),
        (
            model_of(Qwen2Config(use_sliding_window=True, sliding_window=16, max_window_layers=1)),
            "looks back 16 tokens",
        ),
        (
            model_of(SimpleNamespace(layer_types=["linear_attention", "full_attention"])),
            "other kinds .linear_attention",
        ),
        (model_of(SimpleNamespace(layer_types=["sliding_attention"])), "other kinds .sliding_attention"),
        (model_of(Gemma2Config(sliding_window=17)), "caps its attention scores"),
        (model_of(LlamaConfig(), "model.layers.0.self_attn.sinks"), "attention sinks"),
    ],
)
def test_models_whose_attention_is_more_than_the_rule_are_refused(model: Any, what: str) -> None:
    with pytest.raises(UserError, match=what):
        attention.refuse(model, 17, where="train.model", fix="choose another")


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(),
        MistralConfig(sliding_window=17),
        MistralConfig(sliding_window=None),
        Qwen2Config(sliding_window=16),
        Qwen2Config(use_sliding_window=True, sliding_window=17, max_window_layers=1),
        SimpleNamespace(sliding_window=16, layer_types=["full_attention"]),
    ],
)
def test_a_window_that_hides_nothing_is_none(config: Any) -> None:
    attention.refuse(model_of(config, "lm_head.weight"), 17, where="train.model", fix="choose another")
