"""Attention row by row, by the definition; PyTorch's kernel is a double here (see `varlen_double`)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch.overrides import TorchFunctionMode

from pipelines.engines.packed import varlen
from pipelines.engines.packed.trie import Trie, build
from tests.engines.packed.reference import LONG, PAIRS, Sequences, by_hand, check, qkv
from tests.engines.packed.tries import SEQUENCES
from tests.engines.packed.varlen_double import varlen_attn

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)


def attend(*inputs: torch.Tensor, tree: Trie) -> torch.Tensor:
    return varlen.varlen_attention(SimpleNamespace(), *inputs, None, tree=varlen.Rows(tree, CPU))[0]


@pytest.mark.parametrize("sequences", [PAIRS, LONG], ids=["short", "long"])
def test_attention_and_its_gradients(sequences: Sequences) -> None:
    check(attend, sequences)


@settings(max_examples=25, deadline=None)
@given(SEQUENCES)
def test_attention_of_any_trie(sequences: Sequences) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(varlen, "varlen_attn", varlen_attn)
        check(attend, sequences)


def test_rows_by_hand() -> None:
    """1 2 3 in one row; 4 after 1 2; 5 6 after 1 2 4 stays in its row; 7 after 1."""
    rows = varlen.Rows(build([[1, 2, 3], [1, 2, 4, 5, 6], [1, 7]]), CPU)
    assert rows.keys.tolist() == [0, 1, 2, 0, 1, 3, 4, 5, 0, 6]
    assert rows.query_ends.tolist() == [0, 3, 6, 7] and rows.key_ends.tolist() == [0, 3, 8, 10]
    assert (rows.most_queries, rows.most_keys) == (3, 5)


class Selected(TorchFunctionMode):
    """Notes the types of what is gathered, whose gradients are summed in that type."""

    def __init__(self) -> None:
        super().__init__()
        self.types: list[torch.dtype] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.index_select:
            self.types.append(args[0].dtype)
        return function(*args, **(kwargs or {}))


def test_the_gradients_of_a_shared_token_are_summed_in_float32() -> None:
    """A CPU would do so by itself; a GPU adds in the tensor's own type, and in bfloat16 256 + 1 is 256."""
    states = torch.ones(1, 1, 2, 1, dtype=torch.bfloat16, requires_grad=True)
    with Selected() as selected:
        gathered = varlen.of_rows(states, torch.zeros(257, dtype=torch.long))
    assert gathered.dtype == torch.bfloat16 and selected.types == [torch.float32]
    weights = torch.ones(257, 1, 1, dtype=torch.bfloat16)
    weights[0] = 256
    (gathered * weights).sum().backward()
    assert states.grad is not None and states.grad.flatten().tolist() == [512, 0]


def test_under_autocast_the_kernel_gets_numbers_of_one_type(monkeypatch: pytest.MonkeyPatch) -> None:
    types: list[torch.dtype] = []
    monkeypatch.setattr(
        varlen,
        "varlen_attn",
        lambda q, k, v, *a, **m: types.extend(x.dtype for x in (q, k, v)) or varlen_attn(q, k, v, *a, **m),
    )
    q, k, v = (x.detach().float() for x in qkv(3))
    with torch.autocast("cpu", torch.bfloat16):
        attend(q, k, v.bfloat16(), tree=build([[1, 2, 3]]))
    assert types == [torch.bfloat16] * 3


def test_without_a_tree_it_is_causal_attention() -> None:
    q, k, v = qkv(6)
    out, _ = varlen.varlen_attention(SimpleNamespace(), q, k, v, None)
    torch.testing.assert_close(out, by_hand(q, k, v, [[j <= i for j in range(6)] for i in range(6)]))


@pytest.mark.parametrize("more", [{"dropout": 0.1}, {"softcap": 30.0}, {"s_aux": 1}, {"position_bias": 1}])
def test_what_a_layer_asks_for_and_it_cannot_do_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(more))):
        varlen.varlen_attention(SimpleNamespace(), *qkv(6), None, **more)
