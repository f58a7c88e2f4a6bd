"""Linear layers by oneDNN: the same numbers, and only where it computes them as asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pipelines.engines import onednn

TOLERANCE = 1e-6  # of the largest number: the order of float32 sums


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((found - wanted).abs().max() <= TOLERANCE * wanted.abs().max()) and found.shape == wanted.shape


def both(shape: tuple[int, ...], bias: bool, **kind: Any) -> tuple[torch.nn.Linear, torch.nn.Linear, torch.Tensor]:
    """A layer, the same by oneDNN, and an input."""
    torch.manual_seed(0)
    layer, same = (torch.nn.Linear(shape[-1], 48, bias=bias, **kind) for _ in range(2))
    same.load_state_dict(layer.state_dict())
    assert onednn.use(torch.nn.ModuleList([same])) == 1
    return layer, same, torch.randn(shape, **kind)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 64), (37, 64), (1, 300, 64), (2, 5, 7, 64)])
def test_numbers_and_gradients_are_those_of_the_layer(shape: tuple[int, ...], bias: bool) -> None:
    layer, same, x = both(shape, bias)
    inputs = x.clone().requires_grad_(), x.clone().requires_grad_()
    outputs = layer(inputs[0]), same(inputs[1])
    weights = torch.randn(outputs[0].shape)
    for output in outputs:
        (output * weights).sum().backward()
    assert close(outputs[1], outputs[0])
    assert close(inputs[1].grad, inputs[0].grad)
    for found, wanted in zip(same.parameters(), layer.parameters(), strict=True):
        assert close(found.grad, wanted.grad)


def test_an_input_that_is_not_in_order_in_memory_is_read_right() -> None:
    layer, same, x = both((64, 40, 64), True)
    assert close(same(x.transpose(0, 2)[:, ::2]), layer(x.transpose(0, 2)[:, ::2]))


@pytest.mark.parametrize("shape", [(37, 64, 48), (1, 5, 3), (300, 7, 500), (0, 4, 5)])
@pytest.mark.parametrize("turned", [False, True])
def test_products_of_two_matrices(turned: bool, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    t, k, n = shape
    a, b = torch.randn(t, k), torch.randn(k, n)
    a = a.T.contiguous().T if turned else a
    found = onednn.multiply(a, b)
    assert found.shape == (t, n) and (not t or close(found, a @ b))
    if t:
        assert close(onednn.multiply(a, b.T.contiguous().T), a @ b)
        assert close(onednn.multiply(a.double(), b.double()), a.double() @ b.double())


@pytest.fixture
def no_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*_: Any, **__: Any) -> None:
        raise AssertionError("oneDNN was asked")

    monkeypatch.setattr(F, "conv2d", called)


def test_a_number_of_layers_goes_through_it(no_convolution: None) -> None:
    """Or the tests below could not fail."""
    _, same, x = both((3, 64), False)
    with pytest.raises(AssertionError, match="was asked"):
        same(x)


@pytest.mark.usefixtures("no_convolution")
def test_other_types_are_left_to_pytorch() -> None:
    layer, same, x = both((3, 64), True, dtype=torch.float64)
    assert torch.equal(same(x), layer(x))
    layer, same, x = both((3, 64), True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(same(x), layer(x))


@pytest.mark.usefixtures("no_convolution")
def test_no_token_is_no_error() -> None:
    _, same, x = both((0, 64), True)
    assert same(x).shape == (0, 48)


def test_a_layer_of_another_class_stays_as_it_is() -> None:
    class Doubled(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    made = torch.nn.Sequential(Doubled(4, 4), torch.nn.Linear(4, 4))
    assert onednn.use(made) == 1
    assert "forward" not in vars(made[0]) and "forward" in vars(made[1])


def test_a_model_tells_whether_it_is_used() -> None:
    made = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    assert not onednn.used(made)
    onednn.use(made)
    made[1].forward = torch.sum  # something else may take the place of one layer's, as the head's scores do
    assert onednn.used(made)


def test_weights_keep_their_names() -> None:
    _, same, _ = both((1, 64), True)
    assert set(same.state_dict()) == {"weight", "bias"}
